"""A tiny SAM 2 with random weights, on disk as the published checkpoints are: the video
model's."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

from made_checkpoints import write_json

IMAGE_SIZE = 128
_HIDDEN = 32
_IMAGE_PROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "Sam2ImageProcessorFast",
    "image_std": [0.229, 0.224, 0.225],
    "mask_size": {"height": 32, "width": 32},
    "processor_class": "Sam2VideoProcessor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
}


def make_sam2(folder: Path, seed: int = 0) -> Path:
    """Write config, weights and preprocessing of a tiny model into `folder`, and return it."""
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "num_attention_heads": 1,
                "image_size": [IMAGE_SIZE, IMAGE_SIZE],
                "blocks_per_stage": [1, 2, 3, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 14, 7],
                "global_attention_blocks": [4],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": _HIDDEN,
        },
        prompt_encoder_config={"hidden_size": _HIDDEN, "image_size": IMAGE_SIZE},
        mask_decoder_config={
            "hidden_size": _HIDDEN,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": _HIDDEN,
        },
        image_size=IMAGE_SIZE,
        memory_attention_hidden_size=_HIDDEN,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=_HIDDEN,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=_HIDDEN,
        memory_fuser_num_layers=1,
        memory_fuser_embed_dim=_HIDDEN,
        memory_fuser_intermediate_dim=64,
    )
    model = Sam2VideoModel(config).eval()
    _randomise(model, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", _IMAGE_PROCESSOR)
    write_json(
        folder / "processor_config.json",
        {
            "point_pad_value": -10,
            "processor_class": "Sam2VideoProcessor",
            "target_size": IMAGE_SIZE,
        },
    )
    return folder


def _randomise(model: Sam2VideoModel, seed: int) -> None:
    """Weights large enough that masks depend on the photograph and on the point, and differ by
    both."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.state_dict().items()):
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            tensor.copy_(1 + 0.1 * noise)
        elif name.endswith("bias"):
            tensor.copy_(0.1 * noise)
        elif tensor.ndim >= 2 and "embed" not in name:
            tensor.copy_(noise * 1.5 / max(1, tensor[0].numel()) ** 0.5)
        else:
            tensor.copy_(noise)
    # One matrix under two names.
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(
        model.shared_image_embedding.positional_embedding
    )
