"""Further networks for tools/zoo.py: other encoders, options of decoders, and networks of one size.

A network is `library, network, variant`, as in tools/zoo.py, with what makes it. Networks that take pictures of one size,
or whose operations depend on the size, have this size: they are exported with `fixed_size`.
"""

from dataclasses import dataclass

CLASSES = 5
WINDOWS = (224, 224)

UNET_ENCODERS = (
    "resnext50_32x4d", "se_resnet50", "se_resnext50_32x4d", "senet154", "dpn68", "inceptionresnetv2", "inceptionv4",
    "xception", "vgg11", "densenet169", "efficientnet-b1", "timm-tf_efficientnet_lite0", "timm-efficientnet-b0",
    "tu-res2net50_26w_4s", "tu-regnetx_002", "tu-regnety_002", "timm-skresnet18", "tu-gernet_s", "tu-resnest26d",
    "tu-mobilenetv3_large_100", "mobileone_s0", "tu-resnet18d", "tu-convnext_atto", "tu-convnextv2_atto",
    "tu-mobilevit_s", "tu-mobilevitv2_050", "tu-hrnet_w18_small", "tu-mobilenetv4_conv_small",
    "tu-mobilenetv4_hybrid_medium", "tu-efficientvit_b0", "tu-edgenext_xx_small", "tu-repvit_m0_9", "tu-fastvit_t8",
    "tu-mambaout_femto", "tu-ghostnet_100", "tu-tf_efficientnetv2_b0", "tu-cspdarknet53", "tu-dla34",
    "tu-eca_resnet33ts", "tu-gcresnet33ts", "tu-lambda_resnet26t", "tu-poolformer_s12", "tu-pvt_v2_b0",
    "tu-twins_svt_small", "tu-starnet_s1", "tu-inception_next_atto", "tu-nextvit_small", "tu-rexnet_100",
    "tu-focalnet_tiny_srf", "tu-hgnetv2_b0", "tu-selecsls42b", "tu-vovnet39a", "tu-davit_tiny", "tu-caformer_s18",
    "tu-tiny_vit_5m_224",
)
ONE_SIZE_ENCODERS = ("tu-efficientformerv2_s0", "tu-swin_tiny_patch4_window7_224", "tu-swinv2_tiny_window8_256", "tu-maxvit_tiny_tf_224", "tu-coatnet_0_rw_224",
                     "tu-hiera_tiny_224")
SMP_OPTIONS = {
    ("Unet", "scse"): {"decoder_attention_type": "scse"},
    ("UnetPlusPlus", "scse"): {"decoder_attention_type": "scse"},
    ("Unet", "aux"): {"aux_params": {"classes": 4, "pooling": "avg", "dropout": 0.2}},
    ("FPN", "aux"): {"aux_params": {"classes": 4, "pooling": "max", "activation": "sigmoid"}},
    ("Unet", "sigmoid"): {"activation": "sigmoid"},
    ("Unet", "softmax2d"): {"activation": "softmax2d"},
    ("DeepLabV3Plus", "logsoftmax"): {"activation": "logsoftmax"},
    ("Unet", "tanh"): {"activation": "tanh"},
    ("Unet", "bilinear"): {"decoder_interpolation": "bilinear"},
    ("Unet", "bicubic"): {"decoder_interpolation": "bicubic"},
    ("FPN", "bilinear"): {"decoder_interpolation": "bilinear"},
    ("FPN", "cat"): {"decoder_merge_policy": "cat"},
    ("Unet", "instance"): {"decoder_use_norm": "instancenorm"},
    ("Unet", "layernorm"): {"decoder_use_norm": "layernorm"},
    ("Unet", "identity"): {"decoder_use_norm": "identity"},
    ("UnetPlusPlus", "norm-eps"): {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-3}},
    ("Unet", "center"): {"decoder_add_center_block": True},
    ("Unet", "depth3"): {"encoder_depth": 3, "decoder_channels": (64, 32, 16)},
    ("Linknet", "instance"): {"decoder_use_norm": "instancenorm"},
    ("PSPNet", "instance"): {"decoder_use_norm": "instancenorm"},
    ("PSPNet", "depth4"): {"encoder_depth": 4, "upsampling": 16},
    ("PAN", "bilinear"): {"decoder_interpolation": "bicubic"},
    ("PAN", "stride32"): {"encoder_output_stride": 32},
    ("DeepLabV3", "separable"): {"decoder_aspp_separable": True},
    ("DeepLabV3Plus", "stride8"): {"encoder_output_stride": 8},
    ("UPerNet", "narrow"): {"decoder_channels": 64},
    ("Segformer", "narrow"): {"decoder_segmentation_channels": 64},
}
DPT = ("tu-vit_tiny_patch16_224", "tu-vit_base_patch16_224.augreg_in21k", "tu-deit_tiny_patch16_224", "tu-vit_little_patch16_reg4_gap_256")


@dataclass(frozen=True)
class Further:
    """What makes a network, its one size, if it has one, and the channels of its pictures."""
    make: object
    size: tuple = None
    channels: int = 3


def smp(network, encoder, **options):
    def make():
        import segmentation_models_pytorch
        return getattr(segmentation_models_pytorch, network)(encoder, encoder_weights=None, classes=CLASSES, **options)
    return make


def monai(network, *arguments, **options):
    def make():
        from monai.networks import nets
        return getattr(nets, network)(*arguments, **options)
    return make


def torchvision(network, **options):
    def make():
        from torchvision.models import segmentation
        return getattr(segmentation, network)(weights=None, weights_backbone=None, num_classes=CLASSES, **options)
    return make


def dints():
    from monai.networks.nets import DiNTS, TopologyInstance
    space = TopologyInstance(channel_mul=0.25, num_blocks=6, num_depths=3, use_downsample=True, spatial_dims=2)
    return DiNTS(space, in_channels=3, num_classes=CLASSES, use_downsample=True, spatial_dims=2)


UNET = {"spatial_dims": 2, "in_channels": 3, "out_channels": CLASSES, "channels": (8, 16, 32), "strides": (2, 2)}
PLAIN = {"spatial_dims": 2, "in_channels": 3, "out_channels": CLASSES}
DYN = {**PLAIN, "kernel_size": [3, 3, 3, 3], "strides": [1, 2, 2, 2], "upsample_kernel_size": [2, 2, 2]}
MONAI = {
    "BasicUNet": Further(monai("BasicUNet", features=(16, 16, 32, 64, 128, 16), **PLAIN)),
    "BasicUNet-nontrainable": Further(monai("BasicUNet", features=(16, 16, 32, 64, 128, 16), upsample="nontrainable", **PLAIN)),
    "BasicUNet-pixelshuffle": Further(monai("BasicUNet", features=(16, 16, 32, 64, 128, 16), upsample="pixelshuffle", **PLAIN)),
    "BasicUNetPlusPlus": Further(monai("BasicUNetPlusPlus", features=(16, 16, 32, 64, 128, 16), **PLAIN)),
    "AttentionUnet": Further(monai("AttentionUnet", **UNET)),
    "DynUNet": Further(monai("DynUNet", **DYN)),
    "DynUNet-residual": Further(monai("DynUNet", res_block=True, deep_supervision=True, **DYN)),
    "FlexibleUNet": Further(monai("FlexibleUNet", 3, CLASSES, "efficientnet-b0", spatial_dims=2)),
    "FlexibleUNet-resnet": Further(monai("FlexibleUNet", 3, CLASSES, "resnet18", spatial_dims=2)),
    "SegResNetDS": Further(monai("SegResNetDS", init_filters=16, **PLAIN)),
    "SegResNetVAE": Further(monai("SegResNetVAE", (128, 160), spatial_dims=2, init_filters=8, in_channels=3, out_channels=CLASSES)),
    "VNet": Further(monai("VNet", spatial_dims=2, in_channels=1, out_channels=CLASSES), channels=1),
    "HighResNet": Further(monai("HighResNet", **PLAIN)),
    "UNETR": Further(monai("UNETR", 3, CLASSES, (96, 96), spatial_dims=2, feature_size=8, hidden_size=96, mlp_dim=192, num_heads=4),
                     (96, 96)),
    "SwinUNETR": Further(monai("SwinUNETR", 3, CLASSES, feature_size=12, spatial_dims=2), (128, 160)),
    "SwinUNETR-v2": Further(monai("SwinUNETR", 3, CLASSES, feature_size=12, spatial_dims=2, use_v2=True), (128, 160)),
    "RegUNet": Further(monai("RegUNet", 2, 3, 8, 3, out_channels=CLASSES)),
    "DiNTS": Further(dints),
    "MedNeXt": Further(monai("MedNeXtS", spatial_dims=2, in_channels=3, out_channels=CLASSES)),
    "UNet-batch": Further(monai("UNet", norm="batch", **UNET)),
    "UNet-group": Further(monai("UNet", norm=("group", {"num_groups": 4}), act="swish", **UNET)),
    "UNet-instance-affine": Further(monai("UNet", norm=("instance", {"affine": True}), act="prelu", num_res_units=1, **UNET)),
    "UNet-localresponse": Further(monai("UNet", norm=("localresponse", {"size": 3}), act="mish", adn_ordering="AND", **UNET)),
    "UNet-leaky": Further(monai("UNet", act=("leakyrelu", {"negative_slope": 0.2}), kernel_size=5, up_kernel_size=5, dropout=0.1, **UNET)),
    "UNet-gelu": Further(monai("UNet", act="gelu", num_res_units=3, **UNET)),
    "UNet-elu": Further(monai("UNet", act="elu", **UNET)),
    "UNet-memswish": Further(monai("UNet", act="memswish", **UNET)),
}
TORCHVISION = ("fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large")


def further():
    """All further networks, by name."""
    result = {("smp", "Unet", encoder): Further(smp("Unet", encoder)) for encoder in UNET_ENCODERS}
    result.update({("smp", "Unet", encoder): Further(smp("Unet", encoder), (256, 256) if "256" in encoder else WINDOWS)
                   for encoder in ONE_SIZE_ENCODERS})
    for encoder in ("tu-twins_svt_small", "tu-davit_tiny", "tu-tiny_vit_5m_224"):  # windows
        result["smp", "Unet-fixed", encoder] = Further(smp("Unet", encoder), WINDOWS)
    result["smp", "Segformer", "mit_b1"] = Further(smp("Segformer", "mit_b1"))
    for network in ("FPN", "UPerNet", "Segformer"):
        result["smp", network, "tu-convnext_atto"] = Further(smp(network, "tu-convnext_atto"))
    for (network, option), options in SMP_OPTIONS.items():
        result["smp", f"{network}-{option}", "resnet18"] = Further(smp(network, "resnet18", **options))
    for encoder in DPT:
        result["smp", "DPT", encoder] = Further(smp("DPT", encoder, dynamic_img_size=True))
    for network in TORCHVISION:
        result["torchvision", f"{network}-aux", ""] = Further(torchvision(network, aux_loss=True))
    result.update({("monai", network, ""): made for network, made in MONAI.items()})
    return result


FURTHER = further()
