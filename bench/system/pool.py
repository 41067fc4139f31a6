"""multiprocessing.Pool: quick, and without dependencies or callbacks that could make them."""

from bench.adapter import Adapter


class Pool(Adapter):
    imports = "from multiprocessing import Pool"

    def start(self):
        import multiprocessing

        self.pool = multiprocessing.Pool(self.workers)

    def submit(self, task, *args):
        return self.pool.apply_async(task, args)

    def after(self, task, *args):
        raise NotImplementedError("it has no dependencies")

    def gather(self, handles):
        return [handle.get() for handle in handles]

    def map(self, task, values):
        return self.pool.imap(task, values)

    def stop(self):
        self.pool.close()
        self.pool.join()
