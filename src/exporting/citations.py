"""How to cite the papers behind the models, as BibTeX."""

LBAM = """@inproceedings{xie2019lbam,
  title     = {Image Inpainting with Learnable Bidirectional Attention Maps},
  author    = {Xie, Chaohao and Liu, Shaohui and Li, Chao and Cheng, Ming-Ming and Zuo, Wangmeng and Liu, Xiao and Wen, Shilei and Ding, Errui},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2019}
}"""  # noqa: E501

EDGE_LBAM = """@article{wang2021edgelbam,
  title   = {Image Inpainting with Edge-guided Learnable Bidirectional Attention Maps},
  author  = {Wang, Dongsheng and Xie, Chaohao and Liu, Shaohui and Niu, Zhenxing and Zuo, Wangmeng},
  journal = {arXiv preprint arXiv:2104.12087},
  year    = {2021}
}"""

PCONV = """@inproceedings{liu2018pconv,
  title     = {Image Inpainting for Irregular Holes Using Partial Convolutions},
  author    = {Liu, Guilin and Reda, Fitsum A. and Shih, Kevin J. and Wang, Ting-Chun and Tao, Andrew and Catanzaro, Bryan},
  booktitle = {Proceedings of the European Conference on Computer Vision (ECCV)},
  year      = {2018}
}"""  # noqa: E501

CONTEXTUAL_ATTENTION = """@inproceedings{yu2018contextual,
  title     = {Generative Image Inpainting with Contextual Attention},
  author    = {Yu, Jiahui and Lin, Zhe and Yang, Jimei and Shen, Xiaohui and Lu, Xin and Huang, Thomas S.},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2018}
}"""

MPGA_GLA = """@article{uddin2020global,
  title   = {Global and Local Attention-Based Free-Form Image Inpainting},
  author  = {Uddin, S. M. Nadim and Jung, Yong Ju},
  journal = {Sensors},
  volume  = {20},
  number  = {11},
  pages   = {3204},
  year    = {2020}
}"""

CITATIONS = {
    "lbam": LBAM,
    "edge_lbam": EDGE_LBAM,
    "mecnet": EDGE_LBAM,
    "pconv": PCONV,
    "contextual_attention": CONTEXTUAL_ATTENTION,
    "mpga_gla": MPGA_GLA,
}
"""By the model's name; `<name>_release` and `<name>_printed` are the same paper's."""


def citation(model: str) -> str | None:
    """The BibTeX entry of a model's paper; None of a model that is none of the suite's."""
    return CITATIONS.get(model.removesuffix("_release").removesuffix("_printed"))
