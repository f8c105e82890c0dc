"""Operations that layers share: fast kernels, and Canny's edges."""
