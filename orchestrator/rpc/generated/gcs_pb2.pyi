from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Resources(_message.Message):
    __slots__ = ("units",)
    class UnitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    UNITS_FIELD_NUMBER: _ClassVar[int]
    units: _containers.ScalarMap[str, int]
    def __init__(self, units: _Optional[_Mapping[str, int]] = ...) -> None: ...

class FromNode(_message.Message):
    __slots__ = ("register", "heartbeat", "leaving")
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    register: Register
    heartbeat: Heartbeat
    leaving: Leaving
    def __init__(self, register: _Optional[_Union[Register, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., leaving: _Optional[_Union[Leaving, _Mapping]] = ...) -> None: ...

class NodeSpec(_message.Message):
    __slots__ = ("node_id", "hostname", "services", "total", "labels", "is_head")
    class ServicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IS_HEAD_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    hostname: str
    services: _containers.ScalarMap[str, str]
    total: Resources
    labels: _containers.ScalarMap[str, str]
    is_head: bool
    def __init__(self, node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., services: _Optional[_Mapping[str, str]] = ..., total: _Optional[_Union[Resources, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., is_head: _Optional[bool] = ...) -> None: ...

class Register(_message.Message):
    __slots__ = ("spec", "node", "cluster_id", "seen_epoch", "seen_version")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SEEN_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    spec: NodeSpec
    node: int
    cluster_id: str
    seen_epoch: int
    seen_version: int
    def __init__(self, spec: _Optional[_Union[NodeSpec, _Mapping]] = ..., node: _Optional[int] = ..., cluster_id: _Optional[str] = ..., seen_epoch: _Optional[int] = ..., seen_version: _Optional[int] = ...) -> None: ...

class Pending(_message.Message):
    __slots__ = ("resources", "copies", "cause", "placement")
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    resources: Resources
    copies: int
    cause: str
    placement: str
    def __init__(self, resources: _Optional[_Union[Resources, _Mapping]] = ..., copies: _Optional[int] = ..., cause: _Optional[str] = ..., placement: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("available", "pending", "status")
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    available: Resources
    pending: _containers.RepeatedCompositeFieldContainer[Pending]
    status: str
    def __init__(self, available: _Optional[_Union[Resources, _Mapping]] = ..., pending: _Optional[_Iterable[_Union[Pending, _Mapping]]] = ..., status: _Optional[str] = ...) -> None: ...

class Leaving(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ToNode(_message.Message):
    __slots__ = ("registered", "must_leave", "view", "drain_node", "prepare_bundles", "commit_bundles", "release_bundles", "group_changed", "end_job")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    MUST_LEAVE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    PREPARE_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    RELEASE_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    GROUP_CHANGED_FIELD_NUMBER: _ClassVar[int]
    END_JOB_FIELD_NUMBER: _ClassVar[int]
    registered: Registered
    must_leave: MustLeave
    view: View
    drain_node: DrainNode
    prepare_bundles: PrepareBundles
    commit_bundles: CommitBundles
    release_bundles: ReleaseBundles
    group_changed: GroupChanged
    end_job: EndJob
    def __init__(self, registered: _Optional[_Union[Registered, _Mapping]] = ..., must_leave: _Optional[_Union[MustLeave, _Mapping]] = ..., view: _Optional[_Union[View, _Mapping]] = ..., drain_node: _Optional[_Union[DrainNode, _Mapping]] = ..., prepare_bundles: _Optional[_Union[PrepareBundles, _Mapping]] = ..., commit_bundles: _Optional[_Union[CommitBundles, _Mapping]] = ..., release_bundles: _Optional[_Union[ReleaseBundles, _Mapping]] = ..., group_changed: _Optional[_Union[GroupChanged, _Mapping]] = ..., end_job: _Optional[_Union[EndJob, _Mapping]] = ...) -> None: ...

class Registered(_message.Message):
    __slots__ = ("node", "cluster_id", "head_index")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_INDEX_FIELD_NUMBER: _ClassVar[int]
    node: int
    cluster_id: str
    head_index: int
    def __init__(self, node: _Optional[int] = ..., cluster_id: _Optional[str] = ..., head_index: _Optional[int] = ...) -> None: ...

class MustLeave(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class NodeView(_message.Message):
    __slots__ = ("node", "node_id", "hostname", "services", "total", "available", "labels", "is_head", "state", "draining", "cause", "pending", "status")
    class ServicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IS_HEAD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    node: int
    node_id: str
    hostname: str
    services: _containers.ScalarMap[str, str]
    total: Resources
    available: Resources
    labels: _containers.ScalarMap[str, str]
    is_head: bool
    state: str
    draining: bool
    cause: str
    pending: _containers.RepeatedCompositeFieldContainer[Pending]
    status: str
    def __init__(self, node: _Optional[int] = ..., node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., services: _Optional[_Mapping[str, str]] = ..., total: _Optional[_Union[Resources, _Mapping]] = ..., available: _Optional[_Union[Resources, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., is_head: _Optional[bool] = ..., state: _Optional[str] = ..., draining: _Optional[bool] = ..., cause: _Optional[str] = ..., pending: _Optional[_Iterable[_Union[Pending, _Mapping]]] = ..., status: _Optional[str] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("epoch", "version", "snapshot", "nodes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    snapshot: bool
    nodes: _containers.RepeatedCompositeFieldContainer[NodeView]
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ..., snapshot: _Optional[bool] = ..., nodes: _Optional[_Iterable[_Union[NodeView, _Mapping]]] = ...) -> None: ...

class DrainNode(_message.Message):
    __slots__ = ("reason", "grace_s")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    reason: str
    grace_s: float
    def __init__(self, reason: _Optional[str] = ..., grace_s: _Optional[float] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("bundle", "resources")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    bundle: int
    resources: Resources
    def __init__(self, bundle: _Optional[int] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class PrepareBundles(_message.Message):
    __slots__ = ("group", "attempt", "bundles")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    bundles: _containers.RepeatedCompositeFieldContainer[Bundle]
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ..., bundles: _Optional[_Iterable[_Union[Bundle, _Mapping]]] = ...) -> None: ...

class CommitBundles(_message.Message):
    __slots__ = ("group", "attempt")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class ReleaseBundles(_message.Message):
    __slots__ = ("group", "attempt", "reason")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    reason: str
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class GroupChanged(_message.Message):
    __slots__ = ("group", "state", "cause", "nodes")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    group: str
    state: str
    cause: str
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, group: _Optional[str] = ..., state: _Optional[str] = ..., cause: _Optional[str] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class EndJob(_message.Message):
    __slots__ = ("job", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("node", "number", "answered_below", "list_nodes", "request_drain", "declare_dead", "start_job", "finish_job", "job_ended", "list_jobs", "claim_name", "find_name", "free_name", "list_names", "create_group", "remove_group", "watch_group", "list_groups", "bundles_prepared", "bundles_refused", "bundles_committed", "bundles_released", "put_value", "get_value", "delete_value", "list_keys", "cluster_info")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BELOW_FIELD_NUMBER: _ClassVar[int]
    LIST_NODES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DRAIN_FIELD_NUMBER: _ClassVar[int]
    DECLARE_DEAD_FIELD_NUMBER: _ClassVar[int]
    START_JOB_FIELD_NUMBER: _ClassVar[int]
    FINISH_JOB_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    LIST_JOBS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_NAME_FIELD_NUMBER: _ClassVar[int]
    FIND_NAME_FIELD_NUMBER: _ClassVar[int]
    FREE_NAME_FIELD_NUMBER: _ClassVar[int]
    LIST_NAMES_FIELD_NUMBER: _ClassVar[int]
    CREATE_GROUP_FIELD_NUMBER: _ClassVar[int]
    REMOVE_GROUP_FIELD_NUMBER: _ClassVar[int]
    WATCH_GROUP_FIELD_NUMBER: _ClassVar[int]
    LIST_GROUPS_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_PREPARED_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_REFUSED_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_RELEASED_FIELD_NUMBER: _ClassVar[int]
    PUT_VALUE_FIELD_NUMBER: _ClassVar[int]
    GET_VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_KEYS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_INFO_FIELD_NUMBER: _ClassVar[int]
    node: int
    number: int
    answered_below: int
    list_nodes: ListNodes
    request_drain: RequestDrain
    declare_dead: DeclareDead
    start_job: StartJob
    finish_job: FinishJob
    job_ended: JobEnded
    list_jobs: ListJobs
    claim_name: ClaimName
    find_name: FindName
    free_name: FreeName
    list_names: ListNames
    create_group: CreateGroup
    remove_group: RemoveGroup
    watch_group: WatchGroup
    list_groups: ListGroups
    bundles_prepared: BundlesPrepared
    bundles_refused: BundlesRefused
    bundles_committed: BundlesCommitted
    bundles_released: BundlesReleased
    put_value: PutValue
    get_value: GetValue
    delete_value: DeleteValue
    list_keys: ListKeys
    cluster_info: ClusterInfo
    def __init__(self, node: _Optional[int] = ..., number: _Optional[int] = ..., answered_below: _Optional[int] = ..., list_nodes: _Optional[_Union[ListNodes, _Mapping]] = ..., request_drain: _Optional[_Union[RequestDrain, _Mapping]] = ..., declare_dead: _Optional[_Union[DeclareDead, _Mapping]] = ..., start_job: _Optional[_Union[StartJob, _Mapping]] = ..., finish_job: _Optional[_Union[FinishJob, _Mapping]] = ..., job_ended: _Optional[_Union[JobEnded, _Mapping]] = ..., list_jobs: _Optional[_Union[ListJobs, _Mapping]] = ..., claim_name: _Optional[_Union[ClaimName, _Mapping]] = ..., find_name: _Optional[_Union[FindName, _Mapping]] = ..., free_name: _Optional[_Union[FreeName, _Mapping]] = ..., list_names: _Optional[_Union[ListNames, _Mapping]] = ..., create_group: _Optional[_Union[CreateGroup, _Mapping]] = ..., remove_group: _Optional[_Union[RemoveGroup, _Mapping]] = ..., watch_group: _Optional[_Union[WatchGroup, _Mapping]] = ..., list_groups: _Optional[_Union[ListGroups, _Mapping]] = ..., bundles_prepared: _Optional[_Union[BundlesPrepared, _Mapping]] = ..., bundles_refused: _Optional[_Union[BundlesRefused, _Mapping]] = ..., bundles_committed: _Optional[_Union[BundlesCommitted, _Mapping]] = ..., bundles_released: _Optional[_Union[BundlesReleased, _Mapping]] = ..., put_value: _Optional[_Union[PutValue, _Mapping]] = ..., get_value: _Optional[_Union[GetValue, _Mapping]] = ..., delete_value: _Optional[_Union[DeleteValue, _Mapping]] = ..., list_keys: _Optional[_Union[ListKeys, _Mapping]] = ..., cluster_info: _Optional[_Union[ClusterInfo, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("done", "refused", "nodes", "jobs", "name", "names", "groups", "value", "keys", "info")
    DONE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    done: Done
    refused: Refused
    nodes: Nodes
    jobs: Jobs
    name: Name
    names: Names
    groups: Groups
    value: Value
    keys: Keys
    info: Info
    def __init__(self, done: _Optional[_Union[Done, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., nodes: _Optional[_Union[Nodes, _Mapping]] = ..., jobs: _Optional[_Union[Jobs, _Mapping]] = ..., name: _Optional[_Union[Name, _Mapping]] = ..., names: _Optional[_Union[Names, _Mapping]] = ..., groups: _Optional[_Union[Groups, _Mapping]] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., keys: _Optional[_Union[Keys, _Mapping]] = ..., info: _Optional[_Union[Info, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("total",)
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    total: int
    def __init__(self, total: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ListNodes(_message.Message):
    __slots__ = ("dead_too",)
    DEAD_TOO_FIELD_NUMBER: _ClassVar[int]
    dead_too: bool
    def __init__(self, dead_too: _Optional[bool] = ...) -> None: ...

class Nodes(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeView]
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeView, _Mapping]]] = ...) -> None: ...

class RequestDrain(_message.Message):
    __slots__ = ("node", "reason", "grace_s")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    node: int
    reason: str
    grace_s: float
    def __init__(self, node: _Optional[int] = ..., reason: _Optional[str] = ..., grace_s: _Optional[float] = ...) -> None: ...

class DeclareDead(_message.Message):
    __slots__ = ("node", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: int
    reason: str
    def __init__(self, node: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job", "node", "namespace", "entrypoint", "state", "reason", "started_at_s", "ended_at_s")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    job: str
    node: int
    namespace: str
    entrypoint: str
    state: str
    reason: str
    started_at_s: float
    ended_at_s: float
    def __init__(self, job: _Optional[str] = ..., node: _Optional[int] = ..., namespace: _Optional[str] = ..., entrypoint: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., started_at_s: _Optional[float] = ..., ended_at_s: _Optional[float] = ...) -> None: ...

class StartJob(_message.Message):
    __slots__ = ("job", "namespace", "entrypoint")
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    job: str
    namespace: str
    entrypoint: str
    def __init__(self, job: _Optional[str] = ..., namespace: _Optional[str] = ..., entrypoint: _Optional[str] = ...) -> None: ...

class FinishJob(_message.Message):
    __slots__ = ("job", "reason")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job: str
    reason: str
    def __init__(self, job: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class ListJobs(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Jobs(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class Name(_message.Message):
    __slots__ = ("kind", "namespace", "name", "id", "home", "blob", "job", "detached")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    id: str
    home: int
    blob: bytes
    job: str
    detached: bool
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., id: _Optional[str] = ..., home: _Optional[int] = ..., blob: _Optional[bytes] = ..., job: _Optional[str] = ..., detached: _Optional[bool] = ...) -> None: ...

class ClaimName(_message.Message):
    __slots__ = ("claim",)
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    claim: Name
    def __init__(self, claim: _Optional[_Union[Name, _Mapping]] = ...) -> None: ...

class FindName(_message.Message):
    __slots__ = ("kind", "namespace", "name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class FreeName(_message.Message):
    __slots__ = ("kind", "namespace", "name", "id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    name: str
    id: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class ListNames(_message.Message):
    __slots__ = ("kind", "namespace")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    namespace: str
    def __init__(self, kind: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedCompositeFieldContainer[Name]
    def __init__(self, names: _Optional[_Iterable[_Union[Name, _Mapping]]] = ...) -> None: ...

class LabelSelector(_message.Message):
    __slots__ = ("conditions",)
    class ConditionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    conditions: _containers.ScalarMap[str, str]
    def __init__(self, conditions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GroupSpec(_message.Message):
    __slots__ = ("group", "name", "namespace", "strategy", "bundles", "job", "detached", "selectors")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    SELECTORS_FIELD_NUMBER: _ClassVar[int]
    group: str
    name: str
    namespace: str
    strategy: str
    bundles: _containers.RepeatedCompositeFieldContainer[Resources]
    job: str
    detached: bool
    selectors: _containers.RepeatedCompositeFieldContainer[LabelSelector]
    def __init__(self, group: _Optional[str] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ..., strategy: _Optional[str] = ..., bundles: _Optional[_Iterable[_Union[Resources, _Mapping]]] = ..., job: _Optional[str] = ..., detached: _Optional[bool] = ..., selectors: _Optional[_Iterable[_Union[LabelSelector, _Mapping]]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("spec", "state", "cause", "nodes")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    spec: GroupSpec
    state: str
    cause: str
    nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, spec: _Optional[_Union[GroupSpec, _Mapping]] = ..., state: _Optional[str] = ..., cause: _Optional[str] = ..., nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class CreateGroup(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: GroupSpec
    def __init__(self, spec: _Optional[_Union[GroupSpec, _Mapping]] = ...) -> None: ...

class RemoveGroup(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class WatchGroup(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: str
    def __init__(self, group: _Optional[str] = ...) -> None: ...

class ListGroups(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Groups(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    def __init__(self, groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ...) -> None: ...

class BundlesPrepared(_message.Message):
    __slots__ = ("group", "attempt")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class BundlesRefused(_message.Message):
    __slots__ = ("group", "attempt", "cause")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    cause: str
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ..., cause: _Optional[str] = ...) -> None: ...

class BundlesCommitted(_message.Message):
    __slots__ = ("group", "attempt")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class BundlesReleased(_message.Message):
    __slots__ = ("group", "attempt")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    group: str
    attempt: int
    def __init__(self, group: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class PutValue(_message.Message):
    __slots__ = ("namespace", "key", "value", "overwrite")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: bytes
    value: bytes
    overwrite: bool
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., overwrite: _Optional[bool] = ...) -> None: ...

class GetValue(_message.Message):
    __slots__ = ("namespace", "key")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: bytes
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[bytes] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class DeleteValue(_message.Message):
    __slots__ = ("namespace", "key", "prefix")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    key: bytes
    prefix: bool
    def __init__(self, namespace: _Optional[str] = ..., key: _Optional[bytes] = ..., prefix: _Optional[bool] = ...) -> None: ...

class ListKeys(_message.Message):
    __slots__ = ("namespace", "prefix")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    prefix: bytes
    def __init__(self, namespace: _Optional[str] = ..., prefix: _Optional[bytes] = ...) -> None: ...

class Keys(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ClusterInfo(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Info(_message.Message):
    __slots__ = ("cluster_id", "head_index", "nodes_alive", "storage", "counts")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEAD_INDEX_FIELD_NUMBER: _ClassVar[int]
    NODES_ALIVE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    head_index: int
    nodes_alive: int
    storage: str
    counts: _containers.ScalarMap[str, int]
    def __init__(self, cluster_id: _Optional[str] = ..., head_index: _Optional[int] = ..., nodes_alive: _Optional[int] = ..., storage: _Optional[str] = ..., counts: _Optional[_Mapping[str, int]] = ...) -> None: ...
