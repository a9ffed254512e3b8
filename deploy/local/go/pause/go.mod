module autonomic.local/pause

go 1.26.0
