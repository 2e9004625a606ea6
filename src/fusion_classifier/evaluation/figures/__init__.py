"""Figures of a run: computed once as values, drawn as PNG and in the report as SVG."""
