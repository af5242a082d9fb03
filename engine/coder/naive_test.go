package coder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"padstone/engine/element"
)

// naive decodes the first value of src by reading it byte by byte, as the specification tells it, without the scanner's short
// cuts. It returns the number of bytes read.
func naive(src string, data []byte) (n int, err error) {
	p := parser{rest: src}
	root, err := p.value(0)
	if err != nil {
		return 0, err
	}
	r := bytes.NewReader(data)
	err = readValue(root, r)
	return len(data) - r.Len(), err
}

var errNaive = errors.New("no value")

func readBytes(r *bytes.Reader, n uint64) ([]byte, error) {
	if n > uint64(r.Len()) {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// readVarint reads up to ten bytes. A tenth byte above 1 overflows: as a leaf we skip it, as a length it is an error.
func readVarint(r *bytes.Reader) (v uint64, overflow bool, err error) {
	for i := 0; i < 10; i++ {
		b, err := r.ReadByte()
		if err != nil {
			return 0, false, io.ErrUnexpectedEOF
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, i == 9 && b > 1, nil
		}
	}
	return 0, false, errNaive
}

func readLP(r *bytes.Reader) ([]byte, error) {
	n, overflow, err := readVarint(r)
	if err != nil || overflow || n > 1<<31 {
		return nil, errors.Join(err, errNaive)
	}
	return readBytes(r, n)
}

func readValue(n *node, r *bytes.Reader) error {
	var err error
	switch name, _, _ := strings.Cut(n.String(), "("); name {
	case "unit":
	case "fixed":
		_, err = readBytes(r, uint64(n.size))
	case "varint":
		_, _, err = readVarint(r)
	case "lp":
		_, err = readLP(r)
	case "nullable":
		var b []byte
		if b, err = readBytes(r, 1); err == nil && b[0] == 1 {
			err = readValue(n.a, r)
		} else if err == nil && b[0] != 0 {
			err = errNaive
		}
	case "kv":
		if err = readValue(n.a, r); err == nil {
			err = readValue(n.b, r)
		}
	case "iter":
		err = readIterable(n.a, r)
	case "sharded":
		if _, err = readLP(r); err == nil {
			err = readValue(n.a, r)
		}
	case "window":
		err = readWindow(string(n.win), r)
	case "windowed":
		if err = readHeader(string(n.win), r); err == nil {
			err = readValue(n.a, r)
		}
	case "timer":
		err = readTimer(n, r)
	default:
		err = fmt.Errorf("constructor %q", name)
	}
	return err
}

func readIterable(elem *node, r *bytes.Reader) error {
	b, err := readBytes(r, 4)
	if err != nil {
		return err
	}
	count := int32(binary.BigEndian.Uint32(b))
	if count < -1 {
		return errNaive
	}
	if count >= 0 {
		return readRun(elem, r, uint64(count))
	}
	for {
		chunk, overflow, err := readVarint(r)
		switch {
		case err != nil || overflow:
			return errors.Join(err, errNaive)
		case chunk == 0:
			return nil
		case int64(chunk) == -1:
			_, err = readLP(r)
			return err
		case int64(chunk) < 0:
			return errNaive
		}
		if err := readRun(elem, r, chunk); err != nil {
			return err
		}
	}
}

func readRun(elem *node, r *bytes.Reader, count uint64) error {
	if elem.size == 0 {
		return nil // nothing to read, however often
	}
	for ; count > 0; count-- {
		if err := readValue(elem, r); err != nil {
			return err
		}
	}
	return nil
}

func readWindow(coding string, r *bytes.Reader) error {
	if coding == "global" {
		return nil
	}
	if _, err := readBytes(r, 8); err != nil {
		return err
	}
	if coding == "interval" {
		_, _, err := readVarint(r)
		return err
	}
	_, err := readLP(r)
	return err
}

func readWindows(coding string, r *bytes.Reader) error {
	b, err := readBytes(r, 4)
	if err != nil {
		return err
	}
	count := int32(binary.BigEndian.Uint32(b))
	if count < 0 || coding == "global" && count > 1 {
		return errNaive
	}
	for ; count > 0; count-- {
		if err := readWindow(coding, r); err != nil {
			return err
		}
	}
	return nil
}

func readPane(r *bytes.Reader) error {
	b, err := r.ReadByte()
	if err != nil {
		return err
	}
	indices := int(b & 0x70 >> 4)
	if indices > 2 {
		return errNaive
	}
	for ; indices > 0; indices-- {
		if _, _, err := readVarint(r); err != nil {
			return err
		}
	}
	if b >= 0x80 {
		_, err = readLP(r)
	}
	return err
}

func readHeader(coding string, r *bytes.Reader) error {
	if _, err := readBytes(r, 8); err != nil {
		return err
	}
	if err := readWindows(coding, r); err != nil {
		return err
	}
	return readPane(r)
}

func readTimer(n *node, r *bytes.Reader) error {
	if err := readValue(n.a, r); err != nil {
		return err
	}
	if _, err := readLP(r); err != nil {
		return err
	}
	if err := readWindows(string(n.win), r); err != nil {
		return err
	}
	b, err := readBytes(r, 1)
	switch {
	case err != nil:
		return err
	case b[0] == 1:
		return nil
	case b[0] != 0:
		return errNaive
	}
	if _, err := readBytes(r, 16); err != nil {
		return err
	}
	return readPane(r)
}

// naiveElem reads the header and the value of an element.
func naiveElem(src, coding string, data []byte) (n int, ts element.Time, err error) {
	p := parser{rest: src}
	root, err := p.value(0)
	if err != nil {
		return 0, 0, err
	}
	r := bytes.NewReader(data)
	if err := readHeader(coding, r); err != nil {
		return 0, 0, err
	}
	if err := readValue(root, r); err != nil {
		return 0, 0, err
	}
	return len(data) - r.Len(), element.Time(int64(binary.BigEndian.Uint64(data)) ^ (-1 << 63)), nil
}
