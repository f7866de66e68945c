"""The parts of the book reader: plain Python, which knows nothing of processes or of `orchestrator`.

`manuscript`, `typeset` and `scan` make pages that look scanned; `layout` finds what to read on a page, `ocr`
reads it, `score` compares with the known text, `report` shows and writes the outcome. `pdf` brings pages of
your own. `../ocr_book.py` puts them together, once in a loop and once in parallel.
"""
