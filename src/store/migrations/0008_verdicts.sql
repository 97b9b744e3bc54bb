-- What this gate remembers about its own decisions, and the events about them. Times are milliseconds since the Unix epoch.

-- When this gate first saw an image in a repository, and when it first admitted it.
CREATE TABLE image_history (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    known_since BIGINT NOT NULL,
    admitted_since BIGINT,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (host, repository, digest)
) WITHOUT ROWID;
CREATE INDEX image_history_by_use ON image_history (used_at);
-- Earlier versions kept only the last of these times, so an image looks younger than it is.
INSERT INTO image_history
    SELECT host, repository, digest, MIN(seen_at, COALESCE(pulled_at, seen_at)), pulled_at,
        MAX(seen_at, COALESCE(pulled_at, 0))
    FROM manifests;

-- When this gate first saw each issue of an image: a JSON object of identifiers and times.
CREATE TABLE issue_history (
    digest TEXT PRIMARY KEY,
    seen TEXT NOT NULL,
    used_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX issue_history_by_use ON issue_history (used_at);

-- The last decision about each image that was admitted to a scope, and the one before its last change.
CREATE TABLE verdicts (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    scope TEXT NOT NULL,
    -- The tag by which it was pulled last; empty if it was pulled only by its digest.
    tag TEXT NOT NULL,
    kind TEXT NOT NULL,
    pulled_at BIGINT NOT NULL,
    decision TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- The generation of the advisory databases, a space, and the fingerprint of the rules; empty if it must be judged again.
    basis TEXT NOT NULL,
    decided_at BIGINT NOT NULL,
    -- When the decision ends by itself.
    valid_until BIGINT,
    -- Why it could not be judged the last time.
    doubt TEXT,
    old_decision TEXT,
    old_reason TEXT,
    old_basis TEXT,
    changed_at BIGINT,
    UNIQUE (host, repository, digest, scope)
);
CREATE INDEX verdicts_by_pull ON verdicts (pulled_at, id);
CREATE INDEX verdicts_by_end ON verdicts (valid_until) WHERE valid_until IS NOT NULL;
CREATE INDEX verdicts_by_change ON verdicts (changed_at) WHERE changed_at IS NOT NULL;

-- The manifests of these images, so that an image is judged again after its content was evicted.
CREATE TABLE verdict_manifests (
    digest TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    bytes BLOB NOT NULL
) WITHOUT ROWID;

-- Who pulled them.
CREATE TABLE verdict_clients (
    verdict INTEGER NOT NULL,
    address TEXT NOT NULL,
    name TEXT NOT NULL,
    pulled_at BIGINT NOT NULL,
    PRIMARY KEY (verdict, address, name)
) WITHOUT ROWID;

-- Events that were not delivered yet: one row for each receiver.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    receiver TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at BIGINT NOT NULL,
    UNIQUE (id, receiver)
);
CREATE INDEX events_by_receiver ON events (receiver, number);
