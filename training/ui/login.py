"""What stands before the Train tab until its reader is known: a form for the token, or Hugging Face's button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from training.ui.base.context import Desk

TOKEN_FORM = """
<div class="lt-gate"><h2>Training is for the owner</h2>
<p>Log in with the admin token. It was printed where the app was started, or set there by
<code>LOOKTHINK_ADMIN_TOKEN</code>.</p>
<form><label for="train-token">Admin token</label>
<div class="lt-gate-row"><input id="train-token" type="password" name="token" autocomplete="current-password" required>
<button type="submit">Log in</button></div>
<p class="lt-gate-problem" role="alert"></p></form></div>
"""
"""A form of our own: the token goes to one route and into no component."""
TOKEN_JS = """
element.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target, problem = form.querySelector('[role=alert]'), button = form.querySelector('button');
  problem.textContent = '';
  button.disabled = true;
  try {
    const answer = await fetch('admin/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token: form.token.value }),
    });
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) {
      form.reset();
      trigger('submit');
    } else {
      problem.textContent = said.error || `The app answered ${answer.status}. Try again.`;
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
    '<div class="lt-gate"><h2>Training is for the owner</h2><p>The owner of this Space, or of an organisation members '
    "who may write in it, train here. Sign in, then come back to this tab.</p></div>"
)
NO_LOGIN_WORDS = (
    '<div class="lt-gate"><h2>Training is for the owner</h2><p>This Space offers no login. Its owner can add '
    "the line <code>hf_oauth: true</code> to the block on top of README.md.</p></div>"
)
_LOG_OUT_JS = """async () => {
  try { await fetch('admin/logout', { method: 'POST' }); } finally { window.location.reload(); }
}"""
"""The page is loaded anew, so that nothing of what it showed is left in it."""


class Gate:
    """The column with the words and the way in."""

    def __init__(self, desk: Desk) -> None:
        self._on_space = desk.guard.access.is_on_space
        with gr.Column(elem_id="train-gate") as self.column:
            if self._on_space and not desk.guard.access.offers_login:
                gr.HTML(NO_LOGIN_WORDS, js_on_load=None)  # with the button, the app would not start
                self._form: Any = None
            elif self._on_space:
                gr.HTML(SPACE_WORDS, js_on_load=None)
                gr.LoginButton("Sign in with Hugging Face", size="md", elem_id="train-sign-in")
                self._form = None
            else:
                self._form = gr.HTML(TOKEN_FORM, js_on_load=TOKEN_JS)

    def entered(self, handler: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Listen to a log-in; on a Space the page is loaded anew then, and the tab's own event does."""
        if self._form is not None:
            self._form.submit(handler, *args, **options)

    def build_log_out(self) -> None:
        """The way out, off a Space; on one, Hugging Face's own button logs out."""
        if not self._on_space:
            button = gr.Button("Log out", size="sm", elem_id="train-log-out", elem_classes="lt-small")
            button.click(None, None, None, js=_LOG_OUT_JS, api_visibility="private")
