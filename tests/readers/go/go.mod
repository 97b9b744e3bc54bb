module pullgate.test/readers

go 1.21
