"""The shared look: one accent, one type family that every machine has, light and dark."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from gradio.routes import BUILD_PATH_LIB
from gradio.themes.utils import colors, fonts, sizes
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

HERE = Path(__file__).parent
BUILT_PAGE = Path(BUILD_PATH_LIB).parent
"""The folder of Gradio's page."""
PREVIEW_PATH = "/preview.png"
_PREVIEW = HERE.parents[1] / "docs" / "compare.png"
MARK = (
    '<svg class="lt-mark" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">'
    '<path d="M3 16c4-6.5 8.3-9.7 13-9.7S25 9.500 29 16c-4 6.500-8.300 9.700-13 9.700S7 22.500 3 16z" '
    'fill="none" stroke="currentColor" stroke-width="2.400" stroke-linejoin="round"/>'
    '<circle cx="16" cy="16" r="4.600" fill="currentColor"/></svg>'
)
"""The eye beside the name, as SVG."""
SCRIPTS = ("page.js", "pictures.js", "history.js", "times.js", "addresses.js", "speech.js")
CSS_PATHS = [HERE / "page.css", HERE / "panel.css"]
FRAME = """<style>.gradio-container {
  width: 100% !important; max-width: 1240px !important; margin: 0 auto !important;
  padding: 18px clamp(14px, 3vw, 28px) 48px !important;
}</style>"""
"""Gradio applies the style sheets once the page is drawn; what places the whole of it would make it jump then."""
SANS = [fonts.Font(name) for name in ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "sans-serif")]
MONO = [fonts.Font(name) for name in ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")]

ACCENT = colors.Color(
    name="ink",
    c50="#eef3ff",
    c100="#dde7ff",
    c200="#bfd0ff",
    c300="#9ab4ff",
    c400="#7896fa",
    c500="#4a6ee0",
    c600="#3156c6",
    c700="#28479f",
    c800="#233c80",
    c900="#1f3466",
    c950="#141f3d",
)
GREY = colors.Color(
    name="paper",
    c50="#faf9f7",
    c100="#f3f2ee",
    c200="#e6e4de",
    c300="#d3d0c8",
    c400="#a3a098",
    c500="#6f6c65",
    c600="#57554f",
    c700="#3d3c39",
    c800="#282827",
    c900="#1d1d1d",
    c950="#141414",
)


def head() -> str:
    """The page's scripts, inline, since nothing is loaded from elsewhere."""
    return "".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)


def icon_tag() -> str:
    """The page's icon, inline: a browser looks for one at the root of the host, which may be another app's."""
    icon = MARK.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" color="{ACCENT.c500}" ')
    return f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(icon)}">'


def link_tags(title: str, description: str, env: Mapping[str, str] = os.environ) -> str:
    """The tags that say what a link to the page shows (Open Graph), for `LinkPreview`.

    The page's address and its picture's are known on a Space alone; of several addresses it is the first.
    """
    facts = {"title": title, "description": description, "type": "website"}
    if host := env.get("SPACE_HOST", "").split(",")[0].strip():
        facts |= {"url": f"https://{host}/", "image": f"https://{host}{PREVIEW_PATH}"}
    tags = "".join(f'<meta property="og:{name}" content="{html.escape(value)}">' for name, value in facts.items())
    card = "summary_large_image" if host else "summary"
    return f'{tags}<meta name="twitter:card" content="{card}">'


def preview_route() -> Route:
    """The route of the picture that a link to the page shows."""

    def picture(request: Request) -> Response:
        return FileResponse(_PREVIEW, headers={"cache-control": "public, max-age=3600"})

    return Route(PREVIEW_PATH, picture, methods=["GET", "HEAD"])


VALUES = {
    "body_background_fill": "#f6f5f1",
    "body_background_fill_dark": "#151617",
    "body_text_color": "#1f2023",
    "body_text_color_dark": "#ececea",
    "body_text_color_subdued": "#5d5b55",
    "body_text_color_subdued_dark": "#a9a8a3",
    "link_text_color": "*primary_600",
    "link_text_color_dark": "*primary_300",
    "link_text_color_visited": "*primary_600",
    "link_text_color_visited_dark": "*primary_300",
    "link_text_color_hover": "*primary_700",
    "link_text_color_hover_dark": "*primary_200",
    "background_fill_primary": "#ffffff",
    "background_fill_primary_dark": "#1e2022",
    "background_fill_secondary": "#f6f5f1",
    "background_fill_secondary_dark": "#26282b",
    "border_color_primary": "#dedbd3",
    "border_color_primary_dark": "#34373b",
    "color_accent_soft": "#eef3ff",
    "color_accent_soft_dark": "#232c45",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "#1e2022",
    "block_border_width": "1px",
    "block_border_width_dark": "1px",
    "block_shadow": "none",
    "block_title_text_weight": "600",
    "block_label_text_color": "#5d5b55",
    "block_label_text_color_dark": "#a9a8a3",
    "block_info_text_color": "#5d5b55",
    "block_info_text_color_dark": "#a9a8a3",
    "input_background_fill": "#ffffff",
    "input_background_fill_dark": "#191b1d",
    "input_border_color": "#c9c6bd",
    "input_border_color_dark": "#43474c",
    "input_border_width": "1px",
    "input_border_width_dark": "1px",
    "input_placeholder_color": "#716e67",
    "input_placeholder_color_dark": "#94938e",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_300",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_200",
    "button_primary_text_color": "#ffffff",
    "button_primary_text_color_dark": "#101a36",
    "button_secondary_background_fill": "transparent",
    "button_secondary_background_fill_dark": "transparent",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "#2a2d30",
    "button_secondary_border_color": "#c9c6bd",
    "button_secondary_border_color_dark": "#43474c",
    "button_secondary_text_color": "#1f2023",
    "button_secondary_text_color_dark": "#ececea",
    "button_border_width": "1px",
    "button_border_width_dark": "1px",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_300",
}
"""Differences from Gradio's base theme, light and (`_dark`) dark."""


def theme() -> gr.themes.Base:
    """Gradio's base theme in our colours; the rest is in the style sheets."""
    base = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=GREY,
        font=SANS,
        font_mono=MONO,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_lg,
    )
    return base.set(**VALUES)
