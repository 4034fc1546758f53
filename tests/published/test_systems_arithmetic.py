"""Published systems whose figures are identities over published inputs, redone with our datasheets, models and laws.

Each test names the source. Where a figure does not hold as stated, the test asserts the corrected sum and says what is wrong.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster, load_gpu, load_nic
from epicycle.hwmodels.laws.roofline import decode_mfu, memory_roof_tokens_per_second, ridge_flop_per_byte
from epicycle.hwmodels.prices import load_prices
from epicycle.scenarios.answer.cost import break_even, cost_of, idle_multiple, utilisation_of
from epicycle.sim.ep.exchange_bound import exchange_bound_tpot_seconds, exchange_seconds
from epicycle.sim.ep.shape import Shape
from epicycle.sim.fabric.collectives import ring_all_reduce_seconds
from epicycle.sim.fabric.pods import all_to_all_load, boardfly, hops, hops_by_level, torus
from epicycle.sim.inputs.model import MoeModel, load_model, with_overrides

PRICES = load_prices()
DAY_SECONDS = 86_400
V3 = load_model("deepseek-v3")


class TestIscaBound:
    """Insights into DeepSeek-V3 (arXiv 2505.09343, ISCA'25), section 2.3.2."""

    EXPERTS = V3.top_k + V3.shared_experts

    def test_a_400_gigabit_nic(self) -> None:
        one = exchange_seconds(32, self.EXPERTS, 7000, load_nic("connectx7-400g").bandwidth)
        assert one == pytest.approx(120.96e-6)
        tpot = exchange_bound_tpot_seconds(one, V3.layers)
        assert tpot == pytest.approx(14.76e-3, rel=5e-4)
        assert math.floor(1 / tpot) == 67  # 67.8: the paper cuts the decimals off

    def test_nvl72(self) -> None:
        one = exchange_seconds(32, self.EXPERTS, 7000, load_gpu("gb200").nvlink_bandwidth)
        assert one == pytest.approx(6.72e-6)
        assert exchange_bound_tpot_seconds(one, V3.layers) == pytest.approx(0.82e-3, rel=5e-3)

    def test_what_it_rounds_and_leaves_out(self) -> None:
        # 7000 stands for the hidden size 7168: 2.4 % more. Against that, all 61 layers are counted (3 are dense and send
        # nothing), and the shared expert's copy, which stays at home: with them out, 13 % less than published.
        rounded = exchange_bound_tpot_seconds(exchange_seconds(32, self.EXPERTS, 7000, 50e9), V3.layers)
        exact = exchange_bound_tpot_seconds(exchange_seconds(32, self.EXPERTS, V3.hidden, 50e9), V3.layers)
        sent = exchange_bound_tpot_seconds(exchange_seconds(32, V3.top_k, V3.hidden, 50e9), V3.moe_layers)
        assert exact / rounded == pytest.approx(1.024)
        assert sent / rounded == pytest.approx(0.8654, rel=1e-3)


class TestRooflines:
    def test_four_percent_of_an_h100_is_a_batch_of_twelve(self) -> None:
        """vanshverma.com notes: 4 % MFU, memory-bound. In bf16 a decode step of batch 12 is there at full memory speed."""
        h100 = load_gpu("h100-sxm")
        assert ridge_flop_per_byte(h100) == pytest.approx(295, rel=2e-3)
        batch = 0.04 * ridge_flop_per_byte(h100)  # one flop a byte and token: two flop, two bytes a weight
        assert batch == pytest.approx(12, rel=0.02)
        assert decode_mfu(batch, h100) == pytest.approx(0.04)
        # It says little about the machine's use: memory is 100 % busy there. FP8 halves both the bytes and the flop's time.
        assert decode_mfu(batch, h100, "fp8", bytes_per_weight=1.0) == pytest.approx(0.04)

    def test_megaqwen(self) -> None:
        """github.com/Infatoshi/MegaQwen: Qwen3-0.6B on an RTX 3090, batch 1: 527 tok/s of a roof of 785."""
        qwen = MoeModel.model_validate(
            {
                "name": "qwen3-0.6b",
                "layers": 28,
                "hidden": 1024,
                "experts": 0,
                "top_k": 0,
                "moe_intermediate": 0,
                "dense_intermediate": 3072,
                "attention": [{"kind": "gqa", "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128}],
                "vocab": 151_936,
                "tied_embeddings": True,
                "max_context": 40_960,
                "sources": {"*": "Qwen3 Technical Report (arXiv 2505.09388), table 1, and the model's config.json"},
            }
        )
        # Tied embeddings: read once, as the output head. All of it in bf16; the cache of a short context is left out.
        roof = memory_roof_tokens_per_second(2 * qwen.total_params, load_gpu("rtx-3090"))
        assert roof == pytest.approx(785, rel=1e-3)
        assert 527 / roof == pytest.approx(0.67, abs=0.005)


class TestMemory:
    def test_pruned_qwen3_30b(self) -> None:
        """elliotarledge.com/blog/reap-compression: 6,144 experts pruned to 1,698: 18 GB."""
        qwen = load_model("qwen3-30b-a3b")
        assert qwen.experts * qwen.moe_layers == 6144
        other = qwen.total_params - qwen.total_expert_params
        pruned = other + 1698 * qwen.expert_params
        # 18 "GB" are 17.8 GiB of bf16: 16.0 GB of experts and 3.1 GB of all else. In 8 bits it would be half.
        assert 2 * pruned / 2**30 == pytest.approx(18, rel=0.02)
        assert 2 * pruned / 1e9 == pytest.approx(19.1, rel=2e-3)
        assert 2 * 1698 * qwen.expert_params / 1e9 == pytest.approx(16.0, rel=2e-3)
        # "You need about 35 GB to load it": no dtype gives that. bf16 takes 61 GB, 8 bits 31 GB.
        assert 2 * qwen.total_params / 1e9 == pytest.approx(61.1, rel=2e-3)
        # A token still goes to 8 experts: on 8 ranks, fewer experts a rank spread it a little more, they save no traffic.
        before, after = (
            Shape(
                tokens=1, hidden=qwen.hidden, top_k=8, experts=experts, ranks=8, domain=8, payload_bytes=2 * qwen.hidden
            ).distinct(8)
            for experts in (128, 32)
        )
        assert before == pytest.approx(5.34, abs=0.02)
        assert after == pytest.approx(5.65, abs=0.02)

    def test_kv_at_three_and_four_bits(self) -> None:
        """TurboQuant: 6x claimed; vLLM: 4 bits 3.4x, FP8 2x."""
        llama = load_model("llama-3.1-8b")
        full = llama.kv_bytes_per_token("bf16")
        assert full == 128 * 1024
        assert full / llama.kv_bytes_per_token("fp8") == 2.0
        assert full / llama.kv_bytes_per_token("fp4") == 4.0
        # Three bits without any scale are 5.33x: the six that are claimed would take 2.67 bits a value.
        claimed, raw_three_bits = 6.0, full / (load_model("llama-3.1-8b").kv_bytes_per_token("fp4") * 3 / 4)
        assert raw_three_bits == pytest.approx(5.33, abs=0.01)
        assert claimed > raw_three_bits
        # vLLM's 3.4x is 4.7 bits a value: 0.7 of scales and padding on top of the four.
        bits_a_value = 16 / 3.4
        assert bits_a_value == pytest.approx(4.7, abs=0.01)


class TestDeepSeekNodes:
    """DeepSeek-V3/R1 Inference System Overview (open-infra-index, day 6, 2025-03-01): 24 hours on H800 nodes."""

    TOKENS_IN, CACHED, TOKENS_OUT = 608e9, 0.563, 168e9
    AVERAGE, PEAK = 226.75, 278

    @property
    def prefill_nodes(self) -> float:
        return self.TOKENS_IN / DAY_SECONDS / 73.7e3  # the rate counts cache hits

    @property
    def decode_nodes(self) -> float:
        return self.TOKENS_OUT / DAY_SECONDS / 14.8e3

    def test_the_rates_give_the_node_count(self) -> None:
        assert self.prefill_nodes == pytest.approx(95, abs=0.6)
        assert self.decode_nodes == pytest.approx(131, abs=0.5)
        # Two inputs of three digits each: they meet the average they do not contain within 0.05 %.
        assert self.prefill_nodes + self.decode_nodes == pytest.approx(self.AVERAGE, rel=1e-3)

    def test_the_bill_and_the_theoretical_revenue(self) -> None:
        run = self.AVERAGE / self.PEAK
        cost = cost_of(
            self.PEAK * 8,
            "h800-sxm",
            8,
            self.TOKENS_IN / DAY_SECONDS / run,
            self.TOKENS_OUT / DAY_SECONDS / run,
            PRICES,
            hours_fraction=run,
            input_share=self.prefill_nodes / (self.prefill_nodes + self.decode_nodes),
        )
        assert cost.usd_per_hour * 24 == pytest.approx(87_072)
        assert cost.tokens_out_per_hour * 24 == pytest.approx(self.TOKENS_OUT)
        assert cost.usd_per_mtok_out == pytest.approx(0.30, abs=0.005)
        assert cost.usd_per_mtok_in == pytest.approx(0.060, abs=0.001)
        meets = break_even(cost, PRICES.api_of("deepseek-r1"), self.CACHED)
        revenue = cost.usd_per_hour * 24 / meets.times_api
        # 562,027 USD is published; with hits of 56.3 %, three digits, 561,975 comes out.
        assert revenue == pytest.approx(562_027, rel=2e-4)
        assert revenue / 87_072 - 1 == pytest.approx(5.45, abs=0.01)
        # 15 % of that load would pay for the nodes, if all were sold at R1's price (much of it is not, says the source).
        assert meets.utilisation == pytest.approx(0.155, abs=0.001)

    def test_twelve_billion_tokens_a_day(self) -> None:
        """Community site: 12 B tokens a day are 139k tok/s. On DeepSeek's nodes and mix of tokens: 3.5 nodes at full load."""
        rate = 12e9 / DAY_SECONDS
        assert rate == pytest.approx(139e3, rel=2e-3)
        nodes = 12e9 / (self.TOKENS_IN + self.TOKENS_OUT) * self.AVERAGE
        assert nodes == pytest.approx(3.5, abs=0.01)
        whole = cost_of(nodes * 8, "h800-sxm", 8, rate * 0.78, rate * 0.22, PRICES)
        assert whole.usd_per_hour * 24 == pytest.approx(4 * 8 * 2 * 24)  # nodes are paid whole


class TestFailures:
    """Llama 3 (arXiv 2407.21783), section 3.3.4: 419 unexpected interruptions in 54 days on 16,384 H100."""

    GPU_HOURS = 16_384 * 54 * 24 / 419

    def test_rates(self) -> None:
        assert pytest.approx(50_700, rel=1e-3) == self.GPU_HOURS
        days_between = self.GPU_HOURS / 96 / 24
        assert days_between == pytest.approx(22, abs=0.05)

    def test_the_mean_loss_is_tiny_and_the_tail_is_not(self) -> None:
        hours_between = self.GPU_HOURS / 96
        restart_minutes = 3.0  # a full restart takes 2 to 3 minutes (SGLang/Mooncake, elastic EP, 2026-03-17)
        assert restart_minutes / 60 / hours_between < 1e-4
        # But on 1 - exp(-24/528) = 4.4 % of days every user waits three minutes, far beyond any SLO: it shows in the tail only.
        assert -math.expm1(-24 / hours_between) == pytest.approx(0.044, abs=0.001)


class TestNetwork:
    def test_infiniband_against_ethernet(self) -> None:
        """vanshverma.com notes: 3.2 Tb/s InfiniBand against 800 Gb/s Ethernet, 128 GPUs, 50,000 steps: 6,400 USD."""
        node = load_cluster("h100-cx7").node
        fast, slow = node.nics * node.nic.bandwidth, load_nic("roce-800g").bandwidth
        assert (fast, slow) == (400e9, 100e9)
        lost = ring_all_reduce_seconds(140e9, 16, slow) - ring_all_reduce_seconds(140e9, 16, fast)
        assert lost == pytest.approx(1.97, abs=0.005)
        hours = lost * 50_000 / 3600
        dollars = 128 * hours * PRICES.gpu_hour["h100-sxm"]
        # Its own inputs give 7,000 USD, not 6,400 (9 % less), if nothing of the all-reduce hides behind the backward pass.
        assert dollars == pytest.approx(7_000, rel=1e-3)
        # And the premise is off: AWS p5 has 3,200 Gb/s as well. What differs is the cost of a message.
        efa = load_cluster("h100-efa").node
        assert efa.nics * efa.nic.bandwidth == fast
        assert efa.nic.message_rate < node.nic.message_rate

    def test_the_wrong_eight_gpus(self) -> None:
        """vanshverma.com notes: 10 to 18 times slower, NVLink 900 GB/s against PCIe 64 and NDR 50 GB/s."""
        h100, nic = load_gpu("h100-sxm"), load_nic("connectx7-400g")
        both_ways = 2 * h100.nvlink_bandwidth
        assert both_ways == 900e9
        assert both_ways / nic.bandwidth == 18
        # 900 GB/s are both directions together, 64 and 50 one: like for like it is 9 and 7 times.
        assert h100.nvlink_bandwidth / nic.bandwidth == 9
        assert h100.nvlink_bandwidth / h100.pcie_bandwidth == pytest.approx(7, abs=0.05)


class TestBoardfly:
    """Google Cloud, the TPU 8i post (April 2026): 16 hops of an 8 x 8 x 16 torus become 7, 56 % fewer."""

    def test_the_largest_distance(self) -> None:
        old, new = torus(8, 8, 16), boardfly()
        assert (len(old), len(new)) == (1024, 36 * 8 * 4)
        assert hops(old).diameter == 16
        assert hops(new).diameter == hops_by_level(new, 4, 32).diameter == 7
        fewer = 1 - hops(new).diameter / hops(old).diameter
        assert fewer == pytest.approx(0.56, abs=0.003)

    def test_it_takes_boards_that_are_fully_connected(self) -> None:
        # With rings of four chips a board has diameter 2, and the route 2+1+2 +1+ 2+1+2 is 11. Free shortest paths, which
        # may cross a third group, do it in 8 where the outer links are dealt round as here.
        ring = boardfly(ring=True)
        assert hops_by_level(ring, 4, 32).diameter == 11
        assert hops(ring).diameter == 8

    def test_the_mean_falls_by_less(self) -> None:
        old, new = hops(torus(8, 8, 16)).mean, boardfly()
        assert old == pytest.approx((2 + 2 + 4) * 1024 / 1023)
        # Who holds which outer link is not published: dealt round, the mean falls by 38 % over shortest paths and by 32 % over
        # routes that leave a board and a group once. Either way it is far from 56 %.
        assert 1 - hops(new).mean / old == pytest.approx(0.378, abs=0.001)
        assert 1 - hops_by_level(new, 4, 32).mean / old == pytest.approx(0.316, abs=0.001)

    def test_an_all_to_all_fills_the_links_between_groups_first(self) -> None:
        links = boardfly()
        load = all_to_all_load(links)
        chips = len(links)
        assert load.sum() == pytest.approx(hops(links).mean * chips * (chips - 1))
        one, other = np.nonzero(links)
        outer = one // 32 != other // 32
        assert load[one, other][outer].min() > load[one, other][~outer].mean()
        # One link between two groups of 32 carries their 1,024 messages and more: others pass through.
        assert load[one, other][outer].mean() == pytest.approx(1601, rel=0.01)


class TestIdleCost:
    """vanshverma.com notes: 10 % utilisation costs six times the API; owning pays only above 90 %."""

    def test_the_two_halves_contradict_each_other_under_the_pure_inverse(self) -> None:
        # Six times at 10 % is equal at 60 %; equal at 90 % is nine times at 10 %.
        at_full = 6 / idle_multiple(0.1)
        assert at_full * idle_multiple(0.6) == pytest.approx(1.0)
        assert idle_multiple(0.1) / idle_multiple(0.9) == pytest.approx(9.0)

    def test_both_hold_if_part_of_the_cost_follows_the_tokens(self) -> None:
        # a / u + b with 10 a + b = 6 and a / 0.9 + b = 1: 60 % of the bill at full load is fixed, 40 % paid by the token.
        fixed, by_token = np.linalg.solve([[10, 1], [1 / 0.9, 1]], [6, 1])
        share = fixed / (fixed + by_token)
        assert share == pytest.approx(0.6)
        assert (fixed + by_token) * idle_multiple(0.1, share) == pytest.approx(6.0)
        assert (fixed + by_token) * idle_multiple(0.9, share) == pytest.approx(1.0)
        # Rented GPUs have no such part, and of owned ones at our prices only 7 % (the power that load adds): it is not there.
        owned = cost_of(8, "h100-sxm", 8, 1.0, 1.0, PRICES, basis="owned")
        assert owned.load_usd_per_hour / owned.usd_per_hour == pytest.approx(0.07, abs=0.01)

    def test_utilisation_comes_from_the_arrivals_and_fixed_cost_moves_the_crossing(self) -> None:
        api = PRICES.api_of("deepseek-v3")
        requests_at_full = 20.0  # each of 1,000 prompt and 300 generated tokens
        crossing = []
        for fixed in (0.0, 20.0):
            cost = cost_of(
                8,
                "h100-sxm",
                8,
                1000 * requests_at_full,
                300 * requests_at_full,
                PRICES,
                utilisation=utilisation_of(2.0, requests_at_full),
                fixed_usd_per_hour=fixed,
            )
            meets = break_even(cost, api)
            assert meets.times_api == pytest.approx(10 * meets.utilisation)
            crossing.append(meets.utilisation)
        hourly_api = 3600 * requests_at_full * (1000 * api.input + 300 * api.output) / 1e6
        assert crossing == pytest.approx([16 / hourly_api, 36 / hourly_api])

    def test_the_penalty_of_one_request_a_second(self) -> None:
        """arXiv 2606.11690: an H100 at 1 request/s is 17.5 to 36.3 times dearer than at full load: it could serve as many."""
        for penalty in (17.5, 36.3):
            assert idle_multiple(utilisation_of(1.0, penalty)) == pytest.approx(penalty)


class TestPricesAndBudgets:
    def test_mtia(self) -> None:
        """Meta's Second Generation AI Chip (ISCA 2025): 44 % less total cost of ownership than GPUs.

        Cost of ownership is (write-off + power) per throughput. The paper prints the result, not the prices: what can be
        shown is what the result asks for.
        """
        gpu = cost_of(8, "h100-sxm", 8, 1.0, 0.0, PRICES, basis="owned")
        power_part = gpu.power_usd_per_hour / gpu.usd_per_hour
        # Of an H100 server at our prices power is a seventh of the bill. Saving all of it is far from 44 %: the capital per
        # unit of throughput has to fall as well, by 35 % if there were no power bill at all.
        assert power_part == pytest.approx(0.14, abs=0.005)
        capital = (gpu.gpu_usd_per_hour + gpu.network_usd_per_hour) / gpu.usd_per_hour
        assert 1 - 0.56 / capital == pytest.approx(0.35, abs=0.01)

    def test_api_against_own(self) -> None:
        """The price rows: MiniMax M2.7 at 0.30 USD/M, R1 at 0.14/0.55/2.19, an H100 at 2 USD: the speed at which it pays."""
        # One H100 earns its two dollars with 6.7 M input tokens of M2.7 an hour: 1,852 tok/s.
        rate = PRICES.gpu_hour["h100-sxm"] / PRICES.api_of("minimax-m2.7").input * 1e6 / 3600
        assert rate == pytest.approx(1852, rel=1e-3)
        assert break_even(
            cost_of(1, "h100-sxm", 1, rate, 0, PRICES), PRICES.api_of("minimax-m2.7")
        ).utilisation == pytest.approx(1)
        # With R1's output, 254 tok/s do.
        rate = PRICES.gpu_hour["h100-sxm"] / PRICES.api_of("deepseek-r1").output * 1e6 / 3600
        assert rate == pytest.approx(254, rel=2e-3)
        assert break_even(
            cost_of(1, "h100-sxm", 1, 0, rate, PRICES), PRICES.api_of("deepseek-r1")
        ).utilisation == pytest.approx(1)

    def test_frame_budgets_of_world_models(self) -> None:
        """A forward pass of 71 ms against a budget of 35 ms; frames of 16.7 ms."""
        forward_ms, budget_ms, frame_ms = 71, 35, 1000 / 60
        assert frame_ms == pytest.approx(16.7, abs=0.05)
        # Not one step fits: it has to become twice as fast for the budget, 4.3 times for a step a frame.
        assert budget_ms // forward_ms == 0
        assert [round(forward_ms / limit, 1) for limit in (budget_ms, frame_ms)] == [2.0, 4.3]
        # GPUs that take frames in turn keep the rate, three or five of them; every frame still comes 71 ms after its input.
        assert [math.ceil(forward_ms / limit) for limit in (budget_ms, frame_ms)] == [3, 5]


def test_a_pruned_model_is_one_override_away() -> None:
    """What the pruned row changes in a scenario: experts a layer, nothing else."""
    qwen = load_model("qwen3-30b-a3b")
    smaller = with_overrides(qwen, {"experts": 35})
    assert smaller.active_params == qwen.active_params - qwen.hidden * (128 - 35) * qwen.moe_layers  # the router's rows
