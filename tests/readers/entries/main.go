// Prints the entries of archives as Go's archive/tar reads them. Each archive on standard input, and each answer, is
// preceded by its length, four bytes, big-endian. An answer has a line for each entry, and a last line "end" or "error".
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

func answer(data []byte) []byte {
	var out bytes.Buffer
	reader := tar.NewReader(bytes.NewReader(data))
	for {
		header, err := reader.Next()
		if err == io.EOF {
			out.WriteString("end\n")
			return out.Bytes()
		}
		if err != nil {
			out.WriteString("error\n")
			return out.Bytes()
		}
		if _, err := io.Copy(io.Discard, reader); err != nil {
			out.WriteString("error\n")
			return out.Bytes()
		}
		link := ""
		if header.Typeflag == tar.TypeLink || header.Typeflag == tar.TypeSymlink {
			link = header.Linkname
		}
		fmt.Fprintf(&out, "%c %x %x\n", header.Typeflag, header.Name, link)
	}
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	var length uint32
	for binary.Read(in, binary.BigEndian, &length) == nil {
		data := make([]byte, length)
		if _, err := io.ReadFull(in, data); err != nil {
			panic(err)
		}
		text := answer(data)
		binary.Write(out, binary.BigEndian, uint32(len(text)))
		out.Write(text)
	}
}
