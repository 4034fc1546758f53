"""What joins the ranks: links and their rates, and flows that share them on the clock."""
