"""Draws CPU per request as bars, one panel a case, without any library."""

from html import escape

WIDTH, BAR, GAP, LABEL = 720, 18, 6, 110
OURS, OTHERS = "#1f6feb", "#9aa4b2"


def draw(cases):
    """An SVG of `{case: {proxy: {"cpu_us": …}}}`; shorter is better."""
    parts, y = [], 30
    for case, proxies in cases.items():
        most = max(figures["cpu_us"] for figures in proxies.values()) or 1
        parts.append(f'<text x="10" y="{y}" class="case">{escape(case)}</text>')
        y += 12
        for name, figures in proxies.items():
            length = (WIDTH - LABEL - 110) * figures["cpu_us"] / most
            colour = OURS if name == "postern" else OTHERS
            parts.append(f'<text x="{LABEL}" y="{y + 13}" class="name">{escape(name)}</text>')
            parts.append(f'<rect x="{LABEL + 8}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{LABEL + 14 + length:.1f}" y="{y + 13}">{figures["cpu_us"]:.1f} µs</text>')
            y += BAR + GAP
        y += 30
    style = "text{font:12px sans-serif;fill:#57606a}.case{font-weight:bold}.name{text-anchor:end}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" role="img" '
        f'aria-label="CPU per request, shorter is better"><style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
