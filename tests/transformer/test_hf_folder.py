"""Models of Hugging Face's folders: the same logits, and by name what is missing, damaged or not supported."""

import json
import shutil
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.hf_models import (
    IDS,
    LLAMA,
    MODELS,
    SIZES,
    arrays,
    bpe,
    changed,
    llama_folder,
    logits_of,
    random_model,
    template,
)

from tokenizer import BPETokenizer, CharTokenizer, formats
from transformer import checkpoint
from transformer.config import GPTConfig
from transformer.hf import export, from_huggingface, huggingface_config, to_huggingface
from transformer.hf.folder import load
from transformer.hf.formats import READ
from transformer.model import GPT


@pytest.fixture
def folder(tmp_path):
    return llama_folder(tmp_path)


def llama_by_its_paper(w, settings, ids):
    """Logits of a Llama in float64, by Hugging Face's names, written from arXiv:2302.13971 and arXiv:2104.09864."""
    w = {name: array.astype(np.float64) for name, array in w.items()}
    heads, kv = settings["num_attention_heads"], settings["num_key_value_heads"]
    d, t = settings["hidden_size"] // heads, ids.shape[1]

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + settings["rms_norm_eps"]) * w[name]

    def layer(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def turned(x):  # (B, T, heads, D)
        angle = np.arange(t)[:, None, None] * settings["rope_theta"] ** (-np.arange(0, d, 2) / d)
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    distance = np.arange(t)[:, None] - np.arange(t)
    seen = (distance >= 0) & (distance < settings.get("sliding_window", t))
    x = w["model.embed_tokens.weight"][ids]
    for i in range(settings["num_hidden_layers"]):
        at = f"model.layers.{i}"
        h = norm(x, f"{at}.input_layernorm.weight")
        q, k, v = (layer(h, f"{at}.self_attn.{n}_proj").reshape(*ids.shape, -1, d) for n in "qkv")
        q, k, v = turned(q), np.repeat(turned(k), heads // kv, axis=2), np.repeat(v, heads // kv, axis=2)
        scores = np.where(seen, np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(d), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("bhts,bshd->bthd", weights / weights.sum(-1, keepdims=True), v)
        x = x + layer(mixed.reshape(x.shape), f"{at}.self_attn.o_proj")
        h = norm(x, f"{at}.post_attention_layernorm.weight")
        gate = layer(h, f"{at}.mlp.gate_proj")
        x = x + layer(gate / (1 + np.exp(-gate)) * layer(h, f"{at}.mlp.up_proj"), f"{at}.mlp.down_proj")
    return norm(x, "model.norm.weight") @ w["lm_head.weight"].T


@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2"])
def test_a_llamas_weights_by_their_names_give_our_logits(name):
    model = random_model(**MODELS[name])
    theirs = to_huggingface(arrays(model), model.config)
    ours = logits_of(model)
    by_paper = llama_by_its_paper(theirs, huggingface_config(model.config), IDS)
    np.testing.assert_allclose(ours, by_paper, atol=2e-5 * np.abs(by_paper).max())


@pytest.mark.parametrize("name", MODELS)
def test_names_round_trip_with_the_models_prefix_and_without(name):
    model = random_model(**MODELS[name])
    weights = arrays(model)
    theirs = to_huggingface(weights, model.config)
    bare = {n.removeprefix("transformer.").removeprefix("model."): w for n, w in theirs.items()}
    for given in (theirs, bare):
        back = from_huggingface(given, model.config)
        assert back.keys() == weights.keys()
        for n in weights:
            np.testing.assert_array_equal(back[n], weights[n])


@pytest.mark.parametrize("name", MODELS)
def test_the_peers_model_of_an_exported_folder_gives_our_logits(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the peer whose logits are compared is not installed")
    torch = pytest.importorskip("torch", reason="transformers needs PyTorch")
    model = random_model(**MODELS[name])
    export(tmp_path / "hf", arrays(model), model.config)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", attn_implementation="eager").eval()
    assert type(theirs).__name__ == json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"][0]
    ours = logits_of(model)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(IDS)).logits.numpy()
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["GPT2", "Llama", "Mistral", "Qwen2"])
def test_a_model_that_the_peer_saved_gives_its_logits(kind, tmp_path):
    """In bfloat16 and in several files, as large ones are."""
    transformers = pytest.importorskip("transformers", reason="the peer whose logits are compared is not installed")
    torch = pytest.importorskip("torch", reason="transformers needs PyTorch")
    torch.manual_seed(3)
    if kind == "GPT2":
        settings = dict(vocab_size=300, n_positions=24, n_embd=32, n_layer=2, n_head=4, n_inner=48)
    else:
        settings = dict(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                        intermediate_size=40, max_position_embeddings=24, initializer_range=0.3)  # fmt: skip
        settings |= {"sliding_window": 5} if kind == "Mistral" else {}
    config = getattr(transformers, f"{kind}Config")(**settings, bos_token_id=0, eos_token_id=0)
    theirs = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config)
    if kind == "Qwen2":
        for layer in theirs.model.layers:
            torch.nn.init.normal_(layer.self_attn.k_proj.bias)
    theirs = theirs.to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="30KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    formats.write(bpe(), tmp_path / "hf" / "tokenizer.json", "huggingface")
    found = load(tmp_path / "hf")
    model = GPT(found.config).eval()
    checkpoint.put_weights(model, found.weights, tmp_path)
    ids = np.random.default_rng(2).integers(0, found.config.vocab_size, (2, 24))
    theirs = type(theirs).from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()  # .float() keeps rounded angles
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).logits.numpy()[..., : found.config.vocab_size]
    np.testing.assert_allclose(logits_of(model, ids), expected, atol=2e-5 * np.abs(expected).max())
    assert found.left_out == 300 - found.config.vocab_size > 0 and found.start == [0] and found.begin == []


def test_what_is_put_before_a_prompt_is_of_the_tokenizer_that_is_named(folder, tmp_path):
    shutil.copy(folder / "tokenizer.json", tmp_path / "with.json")
    changed(tmp_path / "with.json", post_processor=template())
    assert load(folder, tokenizer=tmp_path / "with.json").begin == [bpe().special_tokens["<|end|>"]]
    shutil.copy(tmp_path / "with.json", folder / "tokenizer.json")
    bpe().save(tmp_path / "own.json")
    assert load(folder, tokenizer=tmp_path / "own.json").begin == []


def test_the_ends_that_generation_config_names_go_before_those_of_config(folder):
    """As of models made to converse, whose config.json has the end of a text only."""
    generation = folder / "generation_config.json"
    changed(folder / "config.json", eos_token_id=3, bos_token_id=4)
    for said, end in (({"eos_token_id": [7, 5]}, [7, 5]), ({"eos_token_id": 7}, [7]), ({"do_sample": True}, [3]),
                      ({"eos_token_id": [7, bpe().vocab_size]}, [7])):  # fmt: skip
        generation.write_text(json.dumps(said))
        found = load(folder)
        assert (found.end, found.start, found.begin) == (end, [4], [])
    generation.write_text("{")
    with pytest.raises(ValueError, match="generation_config.json is damaged"):
        load(folder)


def test_a_mistral_whose_config_says_nothing_of_a_window_has_its_types_own(tmp_path):
    tok = bpe()
    model = random_model(**dict(MODELS["mistral"], vocab_size=tok.vocab_size))
    export(tmp_path / "hf", arrays(model), model.config, tok)
    for said, window in ((..., 4096), (None, None), (6, 6)):
        changed(tmp_path / "hf" / "config.json", sliding_window=said)
        assert load(tmp_path / "hf").config.window == window


def test_no_model_is_held_twice_while_it_is_read(tmp_path):
    """GPT-2's matrices are transposed, Llama's joined: each of theirs goes when ours is made."""
    tok = bpe()
    for kind in ("gpt2", "llama"):
        model = random_model(**dict(MODELS[kind], vocab_size=tok.vocab_size, channels=128, layers=8, mlp_size=256))
        export(tmp_path / kind, arrays(model), model.config, tok)
        size = sum(p.size for p in model.parameters()) * 4
        del model
        tracemalloc.start()
        found = load(tmp_path / kind)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size < peak < 1.4 * size, (kind, peak / size, found.left_out)


def test_a_damaged_post_processor_is_named(folder):
    ids = {"special_tokens": {"<|end|>": {"ids": [999]}}}
    for post in ({"type": "TemplateProcessing"}, {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]},
                 {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|end|>"}}], **ids}):  # fmt: skip
        changed(folder / "tokenizer.json", post_processor=post)
        with pytest.raises(ValueError, match="tokenizer.json: its post_processor"):
            load(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_in_several_files_of_a_half_are_all_read_as_float32(dtype, folder):
    weights = load_file(folder / "model.safetensors")
    halves = {name: array.astype(getattr(ml_dtypes, dtype, dtype)) for name, array in weights.items()}
    (folder / "model.safetensors").unlink()
    names, told = list(halves), []
    index = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(names)}
    for file in set(index.values()):
        save_file({name: halves[name] for name in names if index[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    found = load(folder, progress=lambda done, of: told.append((done, of)))
    back = to_huggingface(found.weights, found.config)
    for name, array in back.items():
        expected = halves[name].astype(np.float32)[: len(array)]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)
    assert [done for done, _ in told] == list(range(1, len(names) + 1)) and told[-1][1] == len(names) <= told[0][1] + 2
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-00003\.safetensors: cannot be read"):
        load(folder)


def test_the_angles_among_a_llamas_weights_are_left_out():
    model = random_model(**LLAMA)
    theirs = to_huggingface(arrays(model), model.config)
    theirs["model.layers.1.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    assert from_huggingface(theirs, model.config).keys() == arrays(model).keys()


def test_a_head_of_its_own_that_is_missing_or_another_models_is_named():
    model = random_model(**LLAMA)
    theirs = to_huggingface(arrays(model), model.config)
    with pytest.raises(ValueError, match=r"lm_head.weight must be \(61, 32\), is \(60, 32\)"):
        from_huggingface(theirs | {"lm_head.weight": theirs["lm_head.weight"][:-1]}, model.config)
    del theirs["lm_head.weight"]
    with pytest.raises(ValueError, match="lm_head.weight is missing"):
        from_huggingface(theirs, model.config)


def test_weights_of_another_kind_are_not_listed_without_end():
    model = random_model(**dict(SIZES, layers=9))
    with pytest.raises(ValueError, match=r"(?s)do not fit.*and \d+ more$") as caught:
        from_huggingface({f"x{i}": np.zeros(1) for i in range(99)}, model.config)
    assert len(str(caught.value).splitlines()) == 22


def test_a_shorter_context_is_cut_from_learned_positions(tmp_path):
    tok = bpe()
    model = random_model(**dict(SIZES, vocab_size=tok.vocab_size))
    export(tmp_path / "hf", arrays(model), model.config, tok)
    found = load(tmp_path / "hf", block_size=7)
    assert found.config.block_size == 7
    np.testing.assert_array_equal(found.weights["positions.weight"], arrays(model)["positions.weight"][:7])
    for wrong in (0, 25):
        with pytest.raises(ValueError, match=f"the context must be from 1 to the model's 24, got {wrong}"):
            load(tmp_path / "hf", block_size=wrong)


def test_a_tokenizer_in_gpt2s_two_files_or_elsewhere_is_found(folder, tmp_path):
    tok = load(folder).tokenizer
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match=r"has no tokenizer .*: name one with --tokenizer FILE"):
        load(folder)
    assert load(folder, tokenizer=tmp_path / "elsewhere.json").tokenizer.to_dict() == tok.to_dict()
    formats.write(tok, folder, "gpt2", ignore=["pattern"])
    assert load(folder).tokenizer.encode("the theme") == tok.encode("the theme")


@pytest.mark.parametrize("settings, said", [
    (dict(model_type="bert"), "models of type 'bert' are not supported, but those of gpt2, llama, mistral, qwen2"),
    (dict(model_type=["llama"]), "models of type ['llama'] are not supported"),
    (dict(quantization_config={"bits": 4}), "quantization_config: weights of fewer bits are not supported"),
    (dict(hidden_act="gelu"), "hidden_act is 'gelu'; supported is 'silu' or 'swish'"),
    (dict(rope_scaling={"rope_type": "llama3", "factor": 8.0}), "rope_type 'llama3': its angles are scaled"),
    (dict(rope_scaling={"type": "linear", "factor": 8.0}), "rope_type 'linear': its angles are scaled"),
    (dict(rope_parameters={"rope_type": "yarn", "factor": 4.0}), "rope_type 'yarn': its angles are scaled"),
    (dict(partial_rotary_factor=0.5), "partial_rotary_factor: heads that are turned in part are not supported"),
    (dict(rope_parameters={"partial_rotary_factor": 0.5}), "partial_rotary_factor: heads that are turned in part"),
    (dict(rope_interleaved=True), "rope_interleaved is True; supported is False"),
    (dict(head_dim=16), "head_dim is 16: supported are heads that share hidden_size, 8 each"),
    (dict(hidden_size=...), "hidden_size is missing"),
    (dict(hidden_size=33), "channels 33 must be a multiple of heads 4"),
    (dict(model_type="qwen2", use_sliding_window=True), "use_sliding_window is True; supported is False"),
    (dict(num_hidden_layers="two"), "layers must be a positive integer, got 'two'"),
])  # fmt: skip
def test_a_config_that_asks_for_what_we_have_not_is_refused_by_name(settings, said, folder):
    changed(folder / "config.json", **settings)
    with pytest.raises(ValueError) as caught:
        load(folder)
    assert said in str(caught.value) and "config.json" in str(caught.value)


@pytest.mark.parametrize("settings, said", [
    (dict(activation_function="gelu"), "activation_function is 'gelu'; supported is 'gelu_new' or 'gelu_pytorch_tanh'"),
    (dict(scale_attn_weights=False), "scale_attn_weights is False; supported is True"),
    (dict(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is True; supported is False"),
    (dict(tie_word_embeddings=False), "tie_word_embeddings is False; supported is True"),
    (dict(add_cross_attention=True), "add_cross_attention is True; supported is False"),
])  # fmt: skip
def test_a_gpt2_of_another_computation_is_refused_by_name(settings, said):
    given = huggingface_config(GPTConfig(**SIZES))
    assert READ["gpt2"].config(given) == GPTConfig(**SIZES, mlp_size=128)
    del given["resid_pdrop"]
    assert READ["gpt2"].config(given).dropout == 0.1
    with pytest.raises(ValueError) as caught:
        READ["gpt2"].config(given | settings)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_a_config_that_is_written_is_read_back(name):
    config = GPTConfig(**MODELS[name] | dict(mlp_size=40, dropout=0.125, norm_eps=2e-3))
    given = huggingface_config(config)
    assert READ[given["model_type"]].config(given) == config
    for absent in ("layer_norm_epsilon", "rms_norm_eps"):
        given.pop(absent, None)
    assert READ[given["model_type"]].config(given).norm_eps == (1e-5 if name == "gpt2" else 1e-6)


def test_older_and_newer_spellings_of_a_config_say_the_same():
    given = huggingface_config(GPTConfig(**LLAMA))
    del given["attention_bias"], given["mlp_bias"], given["tie_word_embeddings"]
    theta = given.pop("rope_theta")
    for rope in (
        dict(rope_theta=theta, rope_scaling=None),
        dict(rope_theta=theta, rope_scaling={"type": "default"}),
        dict(rope_parameters={"rope_theta": theta, "rope_type": "default"}, rope_theta=1.0),
    ):
        assert READ["llama"].config(given | rope | dict(sliding_window=8)) == GPTConfig(**LLAMA)
    assert READ["llama"].config(given).rope_base == 10000.0
    given |= dict(rope_theta=theta)
    assert READ["llama"].config(given | {"num_key_value_heads": None}).kv_heads == 4
    assert READ["llama"].config(given | {"attention_dropout": None}) == GPTConfig(**LLAMA)
    for bias in ("attention_bias", "mlp_bias"):
        assert READ["llama"].config(given | {bias: True}).bias
    qwen = given | dict(model_type="qwen2", sliding_window=8, use_sliding_window=False)
    assert READ["qwen2"].config(qwen) == GPTConfig(**LLAMA | dict(bias=True))


def test_what_is_missing_or_damaged_is_named(folder, tmp_path):
    def refused(said):
        with pytest.raises(ValueError) as caught:
            load(folder)
        assert said in str(caught.value), caught.value

    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-5])
    refused("model.safetensors: cannot be read")
    weights.unlink()
    refused("has no weights: expected model.safetensors, or model.safetensors.index.json")
    for name in ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin"):
        (folder / name).write_bytes(b"x")
        refused(f"{name} is a pickle, which may run anything")
        (folder / name).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    refused("expected weight_map")
    (folder / "model.safetensors.index.json").unlink()
    weights.write_bytes(kept)
    arrays = load_file(weights)
    arrays.pop("model.norm.weight")
    arrays["model.layers.1.self_attn.k_proj.weight"] = arrays["model.layers.1.self_attn.k_proj.weight"][:-1]
    save_file(arrays, weights)
    refused("model.norm.weight is missing")
    refused("model.layers.1.self_attn.k_proj.weight must be (16, 32), is (15, 32)")
    weights.write_bytes(kept)
    changed(folder / "config.json", vocab_size=300)
    refused("embed_tokens.weight must be (300, 32)")
    formats.write(BPETokenizer.train("the " * 99 + "".join(map(chr, range(200, 800))), 300), folder / "tokenizer.json",
                  "huggingface")  # fmt: skip
    (folder / "config.json").write_text("{")
    refused("config.json is damaged")
    (folder / "config.json").write_text("[]")
    refused("config.json: expected an object, got list")
    (folder / "config.json").unlink()
    refused("config.json is not there: expected a folder as Hugging Face's save_pretrained writes it")


def test_a_tokenizer_with_more_tokens_than_the_model_is_anothers(folder):
    tok = BPETokenizer.train("the theme of the thesis, and another theory of theirs " * 9, 290)
    formats.write(tok, folder / "tokenizer.json", "huggingface")
    with pytest.raises(
        ValueError, match=f"the tokenizer has {tok.vocab_size} tokens, the model 2..: they are not of one"
    ):
        load(folder)


def test_a_tokenizer_that_no_tokenizer_json_holds_stays_with_the_run(tmp_path):
    model = random_model(**SIZES)
    tok = CharTokenizer.train("".join(map(chr, range(65, 65 + 61))))
    with pytest.raises(ValueError):
        export(tmp_path / "hf", arrays(model), model.config, tok)
    assert not (tmp_path / "hf").exists()


def test_a_model_that_no_type_holds_says_for_each_what_it_has_not():
    with pytest.raises(ValueError, match=r"gpt2 has no positions=rope; llama has no norm=layernorm, mlp=gelu; mistral"):
        huggingface_config(GPTConfig(**SIZES, positions="rope"))


@pytest.mark.parametrize("settings, said", [
    (dict(mlp_size=0), "mlp_size must be a positive integer or None, got 0"),
    (dict(mlp_size=40.5), "mlp_size must be a positive integer or None, got 40.5"),
    (dict(rope_base=0.0), "rope_base must be a positive number, got 0.0"),
    (dict(norm_eps=float("nan")), "norm_eps must be a positive number, got nan"),
])  # fmt: skip
def test_a_config_refuses_sizes_that_are_none(settings, said):
    with pytest.raises(ValueError, match=said):
        GPTConfig(**SIZES, **settings)
