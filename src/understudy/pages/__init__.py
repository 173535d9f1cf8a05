"""Pages: what was found as HTML and Markdown, written once as a document of plain blocks.

``document`` has the blocks, ``about_report`` says what a report holds, ``html`` and ``markdown``
render any document, ``plot`` draws, and ``frame`` is the page around all of it.
"""
