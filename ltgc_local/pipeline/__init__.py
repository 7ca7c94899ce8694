"""The graph of steps, and what runs it: plan, scheduler, worker, tables of rows and seeds."""
