"""The About tab: the model, its scores, its limits, and how to ask it from a program."""

from __future__ import annotations

import html

import gradio as gr

from inference.adapters.record import AdapterRecord
from inference.server.service import Service

STARTER = """
<h2>The model</h2>
<p>The starter is a Qwen2.5-VL in every part, made very small and trained from nothing on drawn pictures of four
kinds: handwritten digits, bar charts, rectangles and triangles with labels, coloured shapes. It exists so that
everything here works on any machine, with no account and no download. It knows nothing else: its answers about a
photograph, or to other questions, mean nothing.</p>
"""
OTHER = """
<h2>The model</h2>
<p>The base is an instruct model that can look and reason. The adapter was trained with GRPO: the model wrote several
answers for each problem, and those that kept the format and were correct were reinforced.</p>
"""
LIMITS = """
<h2>Limits</h2>
<p>A thought that sounds sure may be wrong, and the thought shown is not always what led to the answer. Text inside a
picture can steer the model. Do not use it where a mistake can do harm.</p>
<h2>Privacy</h2>
<p>Questions and pictures are never logged. Uploads are deleted after an hour. The page loads nothing from other
hosts.</p>
<h2>Licences</h2>
<p>LookThink and its starter are under Apache-2.0. The handwritten digits are those from the UCI repository
(Optical Recognition of Handwritten Digits, CC BY 4.0). Another base has its own licence: see its card.</p>
"""
PROGRAM = """from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
result = client.predict(
    image=handle_file("chart.png"),
    question="How high is bar B?",
    expected_answer="7",
    api_name="/ask",
)
print(result["answer"], result["verdict"])"""


def build_about(service: Service) -> gr.HTML:
    """Build the tab; returns its scores, which change with the adapters (`scores_html`)."""
    with gr.Column(elem_classes="lt-about"):
        model = STARTER if service.settings.is_starter else OTHER
        gr.HTML(f"{model}<p>{html.escape(service.settings.base_reason)}</p>", js_on_load=None)
        scores = gr.HTML(scores_html(service), js_on_load=None)
        gr.HTML(LIMITS, js_on_load=None)
        gr.HTML(
            "<h2>From a program</h2><p>Two endpoints, <code>/ask</code> and <code>/compare</code>, take "
            "<code>image</code>, <code>question</code>, <code>expected_answer</code>, <code>adapter</code>, "
            "<code>max_new_tokens</code>, <code>temperature</code> and <code>seed</code>.</p>"
            f'<pre tabindex="0"><code>{html.escape(PROGRAM)}</code></pre>',
            js_on_load=None,
        )
    return scores


def scores_html(service: Service) -> str:
    """A table with a row for each adapter that has an evaluation."""
    rows = "".join(_score_row(record) for record in service.offer.records.values() if record.test_accuracy is not None)
    if not rows:
        return "<h2>Scores</h2><p>The served adapter has no recorded scores.</p>"
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
