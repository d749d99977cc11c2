"""The About tab: the model, its scores, limits, what is kept of visitors, licences, and lines for programs."""

from __future__ import annotations

import html

import gradio as gr

from inference.adapters.record import BASE_NAME, AdapterRecord
from inference.common.settings import Settings
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import prompt_name
from inference.server.lifecycle import CLEANING_SECONDS
from inference.server.service import Service
from inference.server.visitors import MAX_KEYS, is_on_space

STARTER = """
<h2>The model</h2>
<p>The starter is a Qwen2.5-VL in every part, made very small and trained from nothing on drawn pictures of four
kinds: handwritten digits, bar charts, rectangles and triangles with labels, coloured shapes. It exists so that
everything here works on any machine, with no account and no download. It knows nothing else: its answers about a
photograph, or to other questions, mean nothing.</p>
"""
OTHER = """
<h2>The model</h2>
<p>The base is an instruct model that can look and reason. An adapter is trained with GRPO: the model writes several
answers for each problem, and those that keep the format and are correct are reinforced.</p>
"""
LIMITS = """
<h2>Limits</h2>
<p>A thought that sounds sure may be wrong, and the thought shown is not always what led to the answer. Text inside a
picture can steer the model. Do not use it where a mistake can do harm.</p>
"""
LICENCES = """
<h2>Licences</h2>
<p>LookThink and its starter are under Apache-2.0. The handwritten digits are those from the UCI repository
(Optical Recognition of Handwritten Digits, CC BY 4.0). Another base has its own licence: see its card.</p>
"""
ADDRESS = "http://127.0.0.1:7860"
"""The address in `PROGRAMS`; the page puts its own in."""
PROGRAMS = {
    "Python": f"""# pip install gradio_client
from gradio_client import Client, handle_file

client = Client("{ADDRESS}")
result = client.predict(
    image=handle_file("chart.png"),
    question="How high is bar B?",
    expected_answer="7",
    api_name="/ask",
)
print(result["answer"], result["verdict"])""",
    "JavaScript": f"""// npm install @gradio/client
import {{ Client }} from "@gradio/client";
import {{ readFile }} from "node:fs/promises";

const client = await Client.connect("{ADDRESS}");
const image = new Blob([await readFile("chart.png")]);
const job = client.submit("/ask", {{ image, question: "How high is bar B?" }});
for await (const event of job) {{
  if (event.type === "data") console.log(event.data[0].state, event.data[0].answer);
}}
client.close();""",
    "curl": f"""curl {ADDRESS}/v1/chat/completions -H "content-type: application/json" -d @- <<END
{{"model": "{BASE_NAME}", "messages": [{{"role": "user", "content": [
  {{"type": "text", "text": "How high is bar B?"}},
  {{"type": "image_url", "image_url": {{"url": "data:image/png;base64,$(base64 < chart.png | tr -d '\\n')"}}}}
]}}]}}
END""",
    "OpenAI's client": f"""# pip install openai
import base64
from openai import OpenAI

client = OpenAI(base_url="{ADDRESS}/v1", api_key="none")
picture = base64.b64encode(open("chart.png", "rb").read()).decode()
content = [
    {{"type": "text", "text": "How high is bar B?"}},
    {{"type": "image_url", "image_url": {{"url": f"data:image/png;base64,{{picture}}"}}}},
]
for part in client.chat.completions.create(
    model="{BASE_NAME}", messages=[{{"role": "user", "content": content}}], temperature=0, stream=True
):
    delta = part.choices[0].delta
    print(getattr(delta, "reasoning_content", None) or delta.content or "", end="", flush=True)""",
    "MCP": f"""claude mcp add --transport http lookthink {ADDRESS}/mcp""",
}
"""By its name, a program that asks; it runs as it stands beside a picture `chart.png`."""
_OWN_ADDRESS = """
const address = location.origin + location.pathname.replace(/\\/+$/, '');
element.querySelectorAll('.lt-address').forEach((place) => { place.textContent = address; });
"""
"""JavaScript: the address in the programs is the one that this page was opened at, behind a proxy too."""


def build_about(service: Service) -> gr.HTML:
    """Build the tab; returns its scores, which change with the adapters (`scores_html`)."""
    with gr.Column(elem_classes="lt-about"):
        model = STARTER if service.settings.is_starter else OTHER
        gr.HTML(f"{model}<p>{html.escape(service.settings.base_reason)}</p>", js_on_load=None)
        scores = gr.HTML(scores_html(service), js_on_load=None)
        gr.HTML(LIMITS + privacy_html(service.settings, is_on_space()) + LICENCES, js_on_load=None)
        gr.HTML(programs_html(), js_on_load=_OWN_ADDRESS)
    return scores


def privacy_html(settings: Settings, on_space: bool) -> str:
    """Describes what is kept of visitors, where and for how long, by the settings of this deployment."""
    minutes, search = settings.privacy.keep_pictures_minutes, CLEANING_SECONDS // 60
    line = (
        "For each question and each refusal the log has a line: a name for you that is random for each start of the "
        "app, the adapter, the time and the number of tokens."
        if settings.privacy.log_questions
        else "The log has no line about visitors."
    )
    login = (
        "Who signs in with Hugging Face under Train has the login in a cookie of the browser; the app asks the Hub for "
        "the name, and the name of the owner is in the records of the runs that they start. What Hugging Face keeps of "
        "the visit to a Space, its privacy policy says."
        if on_space
        else "Only whoever logs in under Train gets a cookie, for a week."
    )
    sharing = settings.sharing
    written = "They are never written to a disk or a log."
    shared = ""
    if sharing.allowed:
        written = "They are never written to a log, and to a disk only if you share an answer."
        shared = (
            "<strong>Answers that you share.</strong> Pictures, question, expected answer, settings and completion are "
            f"on the disk for at most {sharing.days:,} days, or up to {search} minutes longer, for whoever has the "
            "address. You can delete them before that, in the browser that shared them, which keeps the key; so can "
            "the owner, who sees the list."
        )
    items = (
        f"<strong>Pictures.</strong> The file, and what the model has read from it, are deleted {minutes:,} minutes "
        f"after it came, or up to {search} minutes later.",
        shared,
        f"<strong>Questions, expected answers and completions.</strong> {written} In "
        "memory, the newest stay until newer ones take their place, or the app ends. Nothing is trained on them. "
        "The history under Ask is in your browser alone, until you delete it there.",
        f"<strong>Your address.</strong> It is in memory alone, to limit how much one visitor asks: of the last "
        f"{MAX_KEYS:,} visitors, until the app ends.",
        f"<strong>The log.</strong> {line}",
        f"<strong>Logins.</strong> {login}",
        "<strong>Other hosts.</strong> The page loads nothing from them.",
    )
    listed = "".join(f"<li>{item}</li>" for item in items if item)
    return f"<h2>What is kept of you</h2><ul>{listed}</ul>"


def programs_html() -> str:
    """The programs, each folded but the first, with words on the endpoints."""
    place = f'<span class="lt-address">{ADDRESS}</span>'
    folds = "".join(
        f'<details{" open" if i == 0 else ""}><summary>{html.escape(name)}</summary><pre tabindex="0"><code>'
        f"{html.escape(text).replace(ADDRESS, place)}</code></pre></details>"
        for i, (name, text) in enumerate(PROGRAMS.items())
    )
    return (
        "<h2>From a program</h2><p><code>/ask</code> and <code>/compare</code> take <code>image</code>, "
        "<code>question</code>, <code>expected_answer</code>, <code>adapter</code>, <code>max_new_tokens</code>, "
        "<code>temperature</code>, <code>seed</code> and <code>more_images</code> (a list of the pictures after the "
        "first), and stream. <code>/v1/chat/completions</code> and <code>/v1/models</code> are as OpenAI's clients "
        f"call them. <code>/mcp</code> offers one tool, <code>ask</code>.</p>{folds}"
    )


def prompt_note(record: AdapterRecord) -> str:
    """A few words on its system prompt, where that is not the project's own by its makers' word; else empty."""
    if record.system_prompt not in (None, THINK_PROMPT):
        return f"system prompt: {prompt_name(record.system_prompt)}"
    return "" if record.says_prompt else "system prompt not stated"


def prompts_html(service: Service) -> str:
    """The system prompts of adapters that are not asked with the project's own, or may need another one."""
    items = "".join(_prompt_item(record) for record in _visible(service) if prompt_note(record))
    if not items:
        return ""
    return (
        "<h2>System prompts</h2><p>Base and adapters are asked with LookThink's system prompt, but for these:</p>"
        f"<ul>{items}</ul>"
    )


def _prompt_item(record: AdapterRecord) -> str:
    name = f"<li><strong>{html.escape(record.name)}</strong> "
    if record.system_prompt is None:
        return f"{name}does not say which one it was trained with, and is asked with LookThink's.</li>"
    text = f'<pre class="lt-prompt" tabindex="0"><code>{html.escape(record.system_prompt)}</code></pre>'
    return f"{name}is asked with {html.escape(prompt_name(record.system_prompt))}:{text}</li>"


def scores_html(service: Service) -> str:
    """A table with a row for each adapter that has an evaluation, and the system prompts that are not the project's."""
    return _scores_table(service) + prompts_html(service)


def _scores_table(service: Service) -> str:
    rows = "".join(_score_row(record) for record in _visible(service) if record.test_accuracy is not None)
    if not rows:
        what = "No adapter answers yet" if service.offer.served is None else "The served adapter has no recorded scores"
        return f"<h2>Scores</h2><p>{what}.</p>"
    return (
        "<h2>Scores</h2><p>On problems never seen in training, asked with the thinking prompt. The last answer stated "
        'counts, inside its tags or not.</p><div class="lt-table" tabindex="0" role="group" aria-label="Scores">'
        "<table><thead><tr>"
        "<th>Adapter</th><th>Correct with it</th><th>Correct without it</th><th>Problems</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _score_row(record: AdapterRecord) -> str:
    cells = [
        html.escape(record.name),
        _percent(record.test_accuracy),
        _percent(record.base_accuracy),
        f"{record.num_rows:,}" if record.num_rows else "not recorded",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _percent(share: float | None) -> str:
    return "not recorded" if share is None else f"{100 * share:.0f} %"


def _visible(service: Service) -> list[AdapterRecord]:
    """The adapters that visitors see."""
    offer = service.offer
    return [offer.records[name] for name in offer.visible]
