"""The log-in in front of the Train tab: a form for the admin token, or on a Space Hugging Face's button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from training.admin.access import Access

TOKEN_FORM = """
<div class="lt-login"><h2>Training is for the owner</h2>
<p>Log in with the admin token. It was printed where the app was started, or set there by
<code>LOOKTHINK_ADMIN_TOKEN</code>.</p>
<form><label for="train-token">Admin token</label>
<div class="lt-login-row"><input id="train-token" type="password" name="token" autocomplete="current-password" required>
<button type="submit">Log in</button></div>
<p class="lt-login-problem" role="alert"></p></form></div>
"""
"""A form of our own: the token goes to one route and into no component."""
TOKEN_JS = """
element.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target, problem = form.querySelector('[role=alert]'), button = form.querySelector('button');
  problem.textContent = '';
  button.disabled = true;
  try {
    const response = await fetch('admin/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token: form.token.value }),
    });
    const body = await response.json().catch(() => ({}));
    if (response.ok) {
      form.reset();
      trigger('submit');
    } else {
      problem.textContent = body.error || `The app answered ${response.status}. Try again.`;
      form.token.select();
    }
  } catch {
    problem.textContent = 'The app does not answer. Is it running?';
  } finally {
    button.disabled = false;
  }
});
"""
SPACE_WORDS = (
    '<div class="lt-login"><h2>Training is for the owner</h2><p>The owner of this Space can train here, and so can '
    "members of an organisation who may write in it. Sign in, then come back to this tab.</p></div>"
)
NO_LOGIN_WORDS = (
    '<div class="lt-login"><h2>Training is for the owner</h2><p>This Space offers no login. Its owner can add '
    "the line <code>hf_oauth: true</code> to the block on top of README.md.</p></div>"
)
_LOG_OUT_JS = """async () => {
  try { await fetch('admin/logout', { method: 'POST' }); } finally { window.location.reload(); }
}"""
"""The page is loaded again, so that nothing it showed is left in it."""


class Login:
    """The column that is shown until the caller is known."""

    def __init__(self, access: Access) -> None:
        self._on_space = access.is_on_space
        self._form: gr.HTML | None = None
        with gr.Column(elem_id="train-login") as self.column:
            if not self._on_space:
                self._form = gr.HTML(TOKEN_FORM, js_on_load=TOKEN_JS)
            elif access.offers_login:
                gr.HTML(SPACE_WORDS, js_on_load=None)
                gr.LoginButton("Sign in with Hugging Face", size="md", elem_id="train-sign-in")
            else:
                gr.HTML(NO_LOGIN_WORDS, js_on_load=None)  # with the button, the app would not start

    def on_login(self, handler: Callable[..., object], *args: Any, **options: Any) -> None:
        """Wire a log-in with the token; after one on a Space the page is loaded again, and so the tab."""
        if self._form is not None:
            self._form.submit(handler, *args, **options)

    def build_log_out(self) -> None:
        """The button to log out, off a Space; on a Space, Hugging Face's own button does it."""
        if not self._on_space:
            button = gr.Button("Log out", size="sm", elem_id="train-log-out", elem_classes="lt-small")
            button.click(None, None, None, js=_LOG_OUT_JS, api_visibility="private")
