"""Click commands, one file each: parse, call, render. No domain logic."""
