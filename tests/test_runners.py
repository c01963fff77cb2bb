"""What programs do with Runner besides running it."""

import ferrio


class Named(ferrio.Runner):
    """A subclass with arguments of its own."""

    def __init__(self, name, **options):
        super().__init__(**options)
        self.name = name


def test_a_subclass_has_its_own_arguments():
    loops = []

    def factory():
        loops.append(ferrio.new_event_loop())
        return loops[-1]

    with Named("mine", debug=True, loop_factory=factory) as runner:
        assert runner.name == "mine"
        assert runner.run(ferrio.sleep(0, "result")) == "result"
        assert [runner.get_loop()] == loops
        assert loops[0].get_debug()


def test_attributes_can_be_added():
    with ferrio.Runner() as runner:
        runner.purpose = "anything"
        assert runner.purpose == "anything"


def test_closed_by_what_it_runs(parity):
    """That is refused, and the runner goes on."""

    def body(case):
        runner = case.classes.Runner()

        async def main():
            case.raised(runner.close)
            case(runner.get_loop().is_running())

        for _ in range(2):
            case.raised(runner.run, main())
        runner.close()
        case.raised(runner.get_loop)

    recorded, _ = parity(body)
    assert recorded[0] == ("RuntimeError", "Cannot close a running event loop")
    assert recorded[-1] == ("RuntimeError", "Runner is closed")
