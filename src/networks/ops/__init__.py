"""Operations shared by layers: fast kernels and Canny edges."""
