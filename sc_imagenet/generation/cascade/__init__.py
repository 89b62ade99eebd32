"""The cascaded network of Huang et al. (ICCV 2023): its layers, what it minimises, what a training step reads."""
