"""The server: the visitors' queue in front of the engine, their limits, and the HTTP parts around Gradio's routes.

Doors: `service` (what the tabs and endpoints share), `queue`, `visitors` (who asks, and how much each may), and for the
app `middleware`, `delivery`, `connections`, `lifecycle`, and for programs `openai_api` and `mcp_tool`.
"""
