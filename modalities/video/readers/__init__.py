"""One file a container: the header facts of a video, read in pure Python before FFmpeg sees a byte."""
