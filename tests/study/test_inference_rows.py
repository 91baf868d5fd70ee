"""Users' own rows of measured inference."""

from __future__ import annotations

import math

from planner.costs import load_calibration
from planner.study.inference_rows import predict


def row(**changes: str) -> dict[str, str]:
    return {
        "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "h100_sxm", "engine": "vLLM 0.12",
        "precision": "fp8",
        "isl": "1024", "osl": "256", "tp": "1", "concurrency": "16", "ttft_ms": "60", "tpot_ms": "9.5",
        "source": "mine", **changes,
    }  # fmt: skip


def test_rows_under_the_names_that_users_give_are_predicted() -> None:
    """A row says what was measured in ms; predictions are in s and near what such runs take."""
    first, token = predict([row()], load_calibration())
    assert (first.metric, token.metric) == ("ttft", "tpot")
    assert token.measured == 0.0095
    assert 0.004 < token.predicted < 0.02
    assert 0.01 < first.predicted < 1.0
    assert first.tried == token.tried == 2


def test_an_unknown_model_has_no_prediction_and_says_so() -> None:
    """No shape is guessed for a model that nobody described; the other rows keep theirs."""
    found = predict([row(model="nobody/Unheard-of-7B"), row(osl="512")], load_calibration())
    assert [math.isnan(one.predicted) for one in found] == [True, True, False, False]
    assert "unknown model" in found[0].reason
    assert [one.line for one in found] == [2, 2, 3, 3]


def test_throughput_is_that_of_the_loop() -> None:
    """Clients times output over the time of a request gives the tokens per second."""
    (one,) = predict([row(ttft_ms="", tpot_ms="", output_tokens_per_s="1500")], load_calibration())
    ttft, tpot = predict([row()], load_calibration())
    assert one.metric == "throughput"
    loops = [16 * 256 / (ttft.predicted + 255 * tpot.predicted)]
    assert min(abs(one.predicted / value - 1.0) for value in loops) < 0.2
