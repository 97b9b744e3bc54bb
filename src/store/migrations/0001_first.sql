-- Times are milliseconds since the Unix epoch. Digests are text, as on the wire.

-- What a tag meant when it was last looked up.
CREATE TABLE tags (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    checked_at BIGINT NOT NULL,
    PRIMARY KEY (host, repository, tag)
);

-- Every digest that a tag was seen to mean: a pull by digest is matched by these names.
CREATE TABLE tag_history (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    tag TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (host, repository, digest, tag)
);

-- Manifests that the repository itself delivered; their bytes are content on disk.
CREATE TABLE manifests (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    pulled_at BIGINT,
    PRIMARY KEY (host, repository, digest)
);

-- What a manifest names: children of an index, configuration and layers of an image.
CREATE TABLE members (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    member TEXT NOT NULL,
    is_manifest BIGINT NOT NULL,
    PRIMARY KEY (host, repository, manifest, member)
);
CREATE INDEX members_by_member ON members (host, repository, member);

-- Blobs that the repository itself delivered or confirmed.
CREATE TABLE links (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    size BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (host, repository, digest)
);
CREATE INDEX links_by_digest ON links (digest);

-- Evidence that was expensive to come by, as JSON.
CREATE TABLE evidence (
    topic TEXT NOT NULL,
    subject TEXT NOT NULL,
    value TEXT NOT NULL,
    observed_at BIGINT NOT NULL,
    valid_until BIGINT,
    PRIMARY KEY (topic, subject)
);
