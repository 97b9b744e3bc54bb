-- Images that are never evicted from this disk: the names by which they were pinned, and the manifests that each of them
-- keeps (its own, those of its platforms, and what is attached to these). Times are in milliseconds.
CREATE TABLE pins (
    image TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    reason TEXT,
    pinned_by TEXT,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE pinned_manifests (
    image TEXT NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (image, manifest)
) WITHOUT ROWID;
CREATE INDEX pinned_manifests_by_manifest ON pinned_manifests (manifest);
