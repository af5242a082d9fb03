package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(execute(context.Background(), newTerminal(), os.Args[1:]))
}
