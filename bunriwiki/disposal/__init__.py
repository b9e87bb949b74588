"""How to dispose of detected objects in Korea. Independent of models and protocols."""
