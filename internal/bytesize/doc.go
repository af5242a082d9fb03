// Package bytesize reads and writes numbers of bytes as people do: with the units of GOMEMLIMIT.
package bytesize
