-- What lies on the cache's disk: its size is what eviction counts by, `used_at` what it chooses by. A row is written after
-- its file, and deleted before it, so that a crash leaves files without rows, which a look through the folder finds.
CREATE TABLE contents (
    digest TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    is_manifest BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);
CREATE INDEX contents_by_use ON contents (is_manifest, used_at);

-- An image's parts go together, whichever repositories name them.
CREATE INDEX members_by_member_alone ON members (member);
CREATE INDEX members_by_manifest ON members (manifest);
CREATE INDEX manifests_by_digest ON manifests (digest);
