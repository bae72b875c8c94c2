"""NAS-Bench-Graph's space, known by its table alone, and the benchmarks of searches on it."""

import importlib.util
import itertools
import json
import pathlib
import pickle

import numpy as np
import pandas as pd
import pytest

from jaxnas.benchmarks.__main__ import main
from jaxnas.benchmarks.tables import load_table
from jaxnas.benchmarks.tables.graph_space import LINKS, OPS, SKIP, NASBenchGraph
from jaxnas.benchmarks.tables.read_graph import PACKAGE, written
from jaxnas.errors import InputError
from jaxnas.graph import CellGraph
from jaxnas.predictor import Candidates
from jaxnas.predictors.encodings import path

SPACE = NASBenchGraph()
EVERY = SPACE.all()


def tree(links, ops):
    """What is computed, as nested tuples: an operation, and in any order what reads it.

    A skip that is read is what it reads; so is one that is alone; the input itself is no output beside
    others.
    """

    def readers(node):
        found = [(ops[i], readers(i + 1)) for i, source in enumerate(links) if source == node]
        found = [
            each
            for op, below in found
            for each in (below if op == "skip" and below else [(op, below)])
        ]
        if node == 0:
            found = [each for each in found if each != ("skip", ())]
        return () if found == [("skip", ())] else tuple(sorted(found))

    return readers(0)


def trees(rows):
    return [tree(LINKS[row[0]], [OPS[op] for op in row[1:]]) for row in rows.tolist()]


def test_equal_canonical_rows_are_equal_functions_and_the_other_way_round():
    canonical = SPACE.canonical(EVERY)
    assert len(EVERY) == SPACE.size == 9 * 9**4 - 9
    functions = trees(EVERY)
    by_function = {}
    for function, row in zip(functions, map(tuple, canonical.tolist()), strict=True):
        by_function.setdefault(function, set()).add(row)
    assert {len(rows) for rows in by_function.values()} == {1}
    assert (
        len(by_function) == len(np.unique(canonical, axis=0)) == 26_206
    )  # as many as the authors'
    np.testing.assert_array_equal(SPACE.canonical(canonical), canonical)
    assert SPACE.valid(canonical).all()
    some = np.random.default_rng(0).choice(len(EVERY), 2000, replace=False)
    assert trees(canonical[some]) == [functions[i] for i in some]


def test_skips_that_are_nothing_stand_first():
    def of(text):
        return SPACE.to_string(SPACE.canonical(SPACE.from_string(text)[None])[0])

    chain = "Arch([0, 1, 2, 3], ['skip', 'skip', 'skip', 'gcn'])"
    assert of("Arch([0, 0, 0, 0], ['skip', 'skip', 'gcn', 'skip'])") == chain
    assert of("Arch([0, 1, 2, 3], ['skip', 'gcn', 'skip', 'skip'])") == chain
    beside = (
        "Arch([0, 1, 2, 2], ['skip', 'gcn', 'fc', 'skip'])"  # a skip beside another reader is read
    )
    assert of("Arch([0, 1, 1, 2], ['gcn', 'skip', 'skip', 'fc'])") == beside
    assert of(beside) == beside


def test_strings_there_and_back_and_nodes_in_any_order():
    for row in EVERY[:: len(EVERY) // 500]:
        np.testing.assert_array_equal(SPACE.from_string(SPACE.to_string(row)), row)
    ops = ["gcn", "gin", "fc", "cheb"]
    for links in itertools.product((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)):
        row = SPACE.from_string(f"Arch({list(links)}, {ops})")
        assert trees(row[None]) == [tree(links, ops)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gcn", "not laid out as Arch"),
        ("Arch([0, 1, 2], ['gcn', 'gin', 'fc'])", "not laid out as Arch"),
        ("Arch([0, 1, x, 2], ['gcn', 'gin', 'fc', 'fc'])", "not laid out as Arch"),
        ("Arch([0, 2, 1, 2], ['gcn', 'gin', 'fc', 'fc'])", "node 2 reads 2, expected an earlier one"),
        ("Arch([0, 1, 2, 3], ['gcn', 'gni', 'fc', 'fc'])", "did you mean gin"),
        ("Arch([0, 1, 2, 3], ['skip', 'skip', 'skip', 'skip'])", "do not belong to nasbench_graph"),
    ],
)  # fmt: skip
def test_a_malformed_string_is_one_sentence(text, said):
    with pytest.raises(InputError, match=said):
        SPACE.from_string(text)


def test_its_graph_and_paths():
    row = SPACE.from_string("Arch([0, 0, 1, 2], ['gat', 'fc', 'gin', 'cheb'])")
    edges = ((0, 1, "gat"), (0, 2, "fc"), (1, 3, "gin"), (2, 4, "cheb"))
    ends = ((3, 5, "concat"), (4, 5, "concat"))
    nodes = ("input", "1", "2", "3", "4", "output")
    assert SPACE.graphs(row) == (("network", CellGraph(nodes, edges + ends)),)
    pool = Candidates(
        SPACE, np.stack([row, SPACE.from_string(f"Arch([0, 1, 2, 3], {['gat'] * 4})")])
    )
    assert path(pool).sum(axis=1).tolist() == [2, 1]


def test_it_has_no_networks():
    with pytest.raises(InputError, match="known by its tables alone"):
        SPACE.network(SPACE.proxy_size, classes=3)


def performance(rows):
    """Made up: grows with depth and with graph convolutions, fractions as in the real tables."""
    depth = np.array([max(links) for links in LINKS])[rows[:, 0]]
    convolutions = (rows[:, 1:] < OPS.index("fc")).sum(axis=1)
    jitter = (rows @ np.array([3, 7, 13, 29, 5])) % 17 / 500
    return 0.5 + 0.02 * depth + 0.05 * convolutions + jitter


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Every 60th of the different architectures, with parameters and without."""
    folder = tmp_path_factory.mktemp("graph")
    rows = np.unique(SPACE.canonical(EVERY), axis=0)[::60]
    valid = performance(rows)
    hashes = [int("".join(map(str, row))) for row in rows.tolist()]
    params = 0.1 + (rows[:, 1:] != SKIP).sum(axis=1) + np.arange(len(rows)) / 1e4
    found = {
        key: {"valid_perf": v, "perf": v - 0.01, "latency": 0.01 + v, "para": p}
        for key, v, p in zip(hashes, valid.tolist(), params.tolist(), strict=True)
    }
    (folder / "cora.bench").write_bytes(pickle.dumps(found, 3))
    out = folder / "cora.parquet"
    assert (
        main(["tables", "import", str(folder / "cora.bench"), "--format", "graph", "-o", str(out)])
        == 0
    )
    texts = [SPACE.to_string(row) for row in rows]
    bare = folder / "bare.csv"
    pd.DataFrame({"arch": texts, "cora_valid_acc": valid}).to_csv(bare, index=False)
    flags = ["--format", "csv", "--space", "nasbench_graph", "-o", str(folder / "bare.parquet")]
    assert main(["tables", "import", str(bare), *flags]) == 0
    return rows, out, folder / "bare.parquet"


def strategies(table, out, names, *flags):
    given = {
        "space": "nasbench_graph",
        "table": table,
        "target": "cora_valid_acc",
        "strategies": names,
    }
    given |= {"budget": 12, "runs": 6, "out": out}
    return main(["strategies", *(f"--{k}={v}" for k, v in given.items()), *flags])


def test_a_table_is_looked_up_by_any_row_of_the_same_function(tables):
    rows, table, _ = tables
    found = load_table(table)
    same = EVERY[(SPACE.canonical(EVERY) == rows[100]).all(axis=1)]
    assert len(same) > 1
    np.testing.assert_array_equal(
        found.query(same, "cora_valid_acc"), np.full(len(same), performance(rows[100:101])[0])
    )
    assert (
        found.query(["Arch([0, 0, 0, 0], ['gat', 'gat', 'gat', 'gat'])"], "cora_params")[0] == 4.1
    )


def test_strategies_rank_by_the_tables_parameters(tables, tmp_path, capsys):
    rows, table, _ = tables
    assert (
        strategies(table, tmp_path / "o", "random,proxy,largest,regularized_evolution,default") == 0
    )
    said = " ".join(capsys.readouterr().err.split())
    assert "ranking is the column cora_params of cora.parquet, largest first" in said
    results = pd.read_csv(tmp_path / "o" / "results.csv").set_index("strategy")
    params = load_table(table).values("cora_params")
    best = performance(rows)[np.argsort(-params)[:12]].max()
    for name in ("proxy", "largest"):
        assert results.loc[name, "cora_valid_acc_mean"] == pytest.approx(best)
    # A latency is not what a training takes.
    assert "seconds" not in results
    about = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert about["ranking"]["seconds"] == 0
    assert strategies(table, tmp_path / "p", "random", "--max-params=1e6") == 2
    assert f"costs ({float(params.min() * 1e6)!r},)" in capsys.readouterr().err


def test_the_default_does_without_a_ranking_and_others_say_that_they_cannot(
    tables, tmp_path, capsys
):
    _, table, bare = tables
    assert strategies(bare, tmp_path / "o", "default,random") == 0
    assert "There is no label-free ranking" in " ".join(capsys.readouterr().err.split())
    assert np.isfinite(pd.read_csv(tmp_path / "o" / "results.csv")["cora_valid_acc_mean"]).all()
    assert strategies(table, tmp_path / "p", "default,largest", "--ranking=none") == 0
    assert strategies(table, tmp_path / "q", "default,proxy", "--ranking=none") == 2
    assert "proxy needs the pool's label-free ranking" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "flags", "said"),
    [
        ("proxy", (), "proxy needs the pool's label-free ranking, which is absent"),
        ("largest", (), "largest needs the pool's score params, or costs"),
        ("random", ("--max-params=5",), "no networks to count and its table no parameters"),
        ("proxy", ("--data=digits",), "nasbench_graph has no networks to rank on images"),
    ],
)
def test_what_a_bare_table_cannot_do_is_one_sentence(tables, tmp_path, capsys, names, flags, said):
    assert strategies(tables[2], tmp_path / "o", names, *flags) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


def test_multiply_adds_are_not_in_a_table_of_parameters(tables, tmp_path, capsys):
    assert strategies(tables[1], tmp_path / "o", "nsga2", "--max-macs=5") == 2
    assert "only parameters; leave out --max-macs" in capsys.readouterr().err


def test_predictors_with_and_without_parameters(tables, tmp_path, capsys):
    for table, ranked in ((tables[1], True), (tables[2], False)):
        out = tmp_path / table.stem
        flags = [
            "--space=nasbench_graph",
            f"--table={table}",
            "--target=cora_valid_acc",
            "--labels=40",
        ]
        flags += ["--seeds=1", "--predictors=default,gp,gp_wl", f"--out={out}"]
        assert main(["predictors", *flags]) == 0
        found = pd.read_csv(out / "results.csv").set_index("predictor")["kendall"]
        assert ("label-free ranking" in found) == ranked
        assert (found.drop("label-free ranking", errors="ignore") > 0.5).all()
        if ranked:  # what was fitted with a ranking is not taken for a fit without
            assert main(["predictors", *flags, "--ranking=none"]) == 2
            assert "ranking" in capsys.readouterr().err


def test_the_authors_own_name_for_every_architecture():
    found = importlib.util.find_spec(PACKAGE)
    if found is None:
        pytest.skip("the package nas-bench-graph, which holds the real files, is not installed")
    folder = next(iter(found.submodule_search_locations))
    keys = pickle.loads(pathlib.Path(folder, "light", "cora.bench").read_bytes())
    texts = {SPACE.to_string(row) for row in np.unique(SPACE.canonical(EVERY), axis=0)}
    assert texts == {written(key) for key in keys}
