"""Addresses of clusters, as drivers give them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from orchestrator.cluster_utils import Cluster
from orchestrator.node import attaching
from orchestrator.node import session_dir as directories
from orchestrator.node.cluster_address import cluster_address, find_node

PROGRAM = """
import sys, orchestrator
with orchestrator.init(sys.argv[1]) as session:
    print(session.address_info["node_id"])
"""


@pytest.mark.parametrize(
    ("address", "head"),
    [
        ("10.0.0.1:6385", "10.0.0.1:6385"),
        ("head.example:1", "head.example:1"),
        ("[fe80::1]:6385", "[fe80::1]:6385"),
        ("auto", ""),
        ("/tmp/x:1", ""),
        ("head:99999", ""),
        ("head", ""),
    ],
)
def test_what_is_the_address_of_a_cluster(address, head):
    assert cluster_address(address) == head


def test_a_join_string_that_is_broken_is_said_to_be():
    with pytest.raises(ConnectionError, match="cut off"):
        attaching.find_session("orc1:10.0.0.1:6385/abc")


def test_where_no_node_stands_and_nothing_listens_both_are_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConnectionError, match=rf"listens at 127\.0\.0\.1:{port}: .*start --join"):
            find_node(f"127.0.0.1:{port}", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"no session at all.*refused.*start --head"):
        find_node(f"127.0.0.1:{port}", str(tmp_path))


def test_a_driver_finds_its_machines_node_by_the_heads_address_and_by_the_join_string():
    with Cluster(initialize_head=True) as cluster:
        node = cluster.head_node
        root = os.path.dirname(node.address)
        with open(os.path.join(node.address, directories.FACTS), encoding="utf-8") as file:
            head = json.load(file)["head"]
        port = head.rpartition(":")[2]
        assert find_node(f"localhost:{port}", root) == node.address
        # As on a machine on which these sessions lie at the usual place.
        usual = os.path.join(os.path.dirname(root), "orchestrator")
        os.symlink(os.path.basename(root), usual)
        environment = {**os.environ, "XDG_RUNTIME_DIR": os.path.dirname(root)}
        for address in (head, node._join):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, address], env=environment, capture_output=True, text=True
            )
            assert done.stdout.strip() == node.node_id, done.stderr
