// For each archive on standard input, writes a byte 1 or 0: whether Go's archive/tar reads an entry from it. Each archive
// is preceded by its length, four bytes, big-endian.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
)

func unpacked(input []byte) io.Reader {
	plain := bytes.NewReader(input)
	switch {
	case bytes.HasPrefix(input, []byte{0x1f, 0x8b}):
		if reader, err := gzip.NewReader(plain); err == nil {
			return reader
		}
	case bytes.HasPrefix(input, []byte("BZh")):
		return bzip2.NewReader(plain)
	}
	return bytes.NewReader(input)
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		var length uint32
		if binary.Read(in, binary.BigEndian, &length) != nil {
			return
		}
		input := make([]byte, length)
		if _, err := io.ReadFull(in, input); err != nil {
			panic(err)
		}
		answer := byte(0)
		if _, err := tar.NewReader(unpacked(input)).Next(); err == nil {
			answer = 1
		}
		out.WriteByte(answer)
	}
}
