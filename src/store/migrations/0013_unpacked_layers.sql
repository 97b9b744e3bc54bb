-- Layers by their uncompressed content: a base image is the same, however its layers are compressed.
CREATE INDEX evidence_by_unpacked ON evidence (value) WHERE topic = 'unpacked-1';
