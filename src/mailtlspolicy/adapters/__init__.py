"""The parts that touch the world: DNS by dnspython, TLS by `ssl`, a probing SMTP client. They decide nothing."""
