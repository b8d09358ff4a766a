"""One thread for OpenCV: the pictures here are tiny."""

import cv2

cv2.setNumThreads(1)
