"""The fields of a public `config.json` that do not describe the model's shape.

Some say nothing about its numbers. Some would change them, and are accepted only as they do not. One that is not known
is passed over, and named.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

WITHOUT_EFFECT = tuple(
    """
    _* *_token_id architectures model_type transformers_version dtype torch_dtype auto_map custom_pipelines
    use_cache cache_* return_dict* output_* attn_implementation* is_decoder is_llama_config pretraining_tp
    initializer_* id2label label2id num_labels problem_type task_specific_params finetuning_task
    tokenizer_class prefix transformers.js_config unsloth_* neftune_* pad_token model_max_length max_seq_len
    chunk_size_feed_forward gradient_checkpointing torchscript use_bfloat16 tf_legacy_loss use_flash_attn*
    max_length min_length do_sample early_stopping num_beams num_beam_groups temperature
    top_k top_p typical_p diversity_penalty repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
    remove_invalid_values suppress_tokens begin_suppress_tokens exponential_decay_length_penalty
    n_ctx n_special predict_special_tokens summary_* reorder_and_upcast_attn
    max_window_layers no_rope_layer_interval quantization
    """.split()
)
"""Fields that do not change the logits of any family: bookkeeping, training, decoding (`*` matches anything)."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "add_bias_logits": (False,),
    "add_cross_attention": (False,),
    "add_final_layer_norm": (False,),
    "attention_bias": (False,),
    "attn_logit_softcapping": (),
    "clip_qkv": (),
    "embedding_multiplier": (1.0,),
    "final_logit_softcapping": (),
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "layer_norm_elementwise_affine": (True,),
    "logit_scale": (1.0,),
    "logits_scaling": (1.0,),
    "mlp_bias": (False,),
    "normalize_before": (False,),
    "normalize_embedding": (False,),
    "num_experts": (0,),
    "num_local_experts": (0,),
    "parallel_attn": (False,),
    "partial_rotary_factor": (1.0,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "quantization_config": (),
    "residual_multiplier": (1.0,),
    "rope_interleaved": (False,),
    "rotary_pct": (1.0,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "scale_embeddings": (False,),
    "static_position_embeddings": (True,),
    "use_mrope": (False,),
    "use_parallel_residual": (False,),
    "use_qk_norm": (False,),
    "use_sliding_window": (False,),
}
"""Fields that change the mathematics of some model, with the values that do not; nor does null."""


def relevant_fields(
    fields: Mapping[str, Any], known: Sequence[str], spare: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Those of a `config.json` that are `known` by a family, and the names of those that nobody knows.

    spare: patterns of names that say nothing about the numbers of the family

    Raises ValueError naming a field that would change the mathematics.
    """
    kept, unknown = {}, []
    for name, value in fields.items():
        if name in known:
            kept[name] = value
        elif name in NEUTRAL:
            if value is not None and value not in NEUTRAL[name]:
                accepted = ", ".join(map(str, (*NEUTRAL[name], None)))
                raise ValueError(f"{name} = {value!r} is not supported, accepted are: {accepted}")
        elif value is not None and not any(fnmatchcase(name, pattern) for pattern in (*WITHOUT_EFFECT, *spare)):
            unknown.append(name)
    return kept, unknown
