"""Files and pixels: catalogues of labelled images. Knows attributes.py and nothing else of ours."""
