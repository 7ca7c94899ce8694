"""CDTG: the class-conditional wavelet GAN, its losses and its training."""
