import gc

# Every command, server and run begins with seconds of imports, whose objects all stay: looking for garbage after each
# 700 of them is a fifth of that time.
gc.set_threshold(20_000, 20, 20)
