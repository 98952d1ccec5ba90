"""Fashion scenes: real garments on real photographs, for detection, instance and semantic segmentation.

Nothing is imported here: the generator needs no task library, and each registered data set only that of its own task.
"""
