"""Renderings of the records that folding and comparing leave: terminal, JSON, Markdown, HTML."""
