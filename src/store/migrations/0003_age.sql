-- What was not used for longest is forgotten first: each kind of fact can be gone through by its age.
CREATE INDEX tags_by_age ON tags (checked_at);
CREATE INDEX tag_history_by_age ON tag_history (seen_at);
CREATE INDEX links_by_age ON links (seen_at);
CREATE INDEX evidence_by_age ON evidence (observed_at);
CREATE INDEX manifests_by_age ON manifests (MAX(seen_at, COALESCE(pulled_at, 0)));
