// Writes a database with bbolt, the library that trivy-db is written with.
//
//	bolt-write FILE < rows
//
// Each line of the input is a JSON object: {"path": ["debian 12", "openssl"], "key": "CVE-2024-0001", "value": {...}}.
// Without a value, the key is deleted. Each thousand lines are one transaction, so that the file has free pages, and pages
// that were split and merged, as a real one has.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"log"
	"os"

	bolt "go.etcd.io/bbolt"
)

type row struct {
	Path  []string        `json:"path"`
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: bolt-write FILE < rows")
	}
	db, err := bolt.Open(os.Args[1], 0o600, &bolt.Options{NoSync: true, NoFreelistSync: os.Getenv("NO_FREELIST") != ""})
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for more := true; more; {
		err := db.Update(func(tx *bolt.Tx) error {
			for count := 0; count < 1000; count++ {
				if more = lines.Scan(); !more {
					return lines.Err()
				}
				if err := put(tx, lines.Bytes()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}
}

func put(tx *bolt.Tx, line []byte) error {
	var r row
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	if len(r.Path) == 0 {
		return errors.New("a row without a path")
	}
	bucket, err := tx.CreateBucketIfNotExists([]byte(r.Path[0]))
	for _, name := range r.Path[1:] {
		if err != nil {
			return err
		}
		bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
	}
	if err != nil {
		return err
	}
	if r.Value == nil {
		return bucket.Delete([]byte(r.Key))
	}
	return bucket.Put([]byte(r.Key), r.Value)
}
