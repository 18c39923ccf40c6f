"""Your zone: what the fleet does. Here it counts the flights of every U.S. airport in 2008, route by route."""

from pydantic import BaseModel

from worker import App, Leadership, Message

app = App()


class Route(BaseModel):
    origin: str
    destination: str
    count: int


@app.queue("routes", partitions=16, key="origin")
async def count_flights(route: Route, message: Message) -> None:
    """Note how many flights one route had.

    All routes of one origin have the same owner, so no other instance writes to this airport's document, and the
    store refuses an owner that was replaced. A message may come twice: noting a number twice changes nothing,
    where adding it twice would.
    """
    async with message.state(route.origin) as airport:
        airport[route.destination] = route.count


@app.leader
async def open_the_books(leadership: Leadership) -> None:
    """Runs on the leader and nowhere else: leaves the number of the term under which the counting goes on."""
    async with leadership.state("books") as books:
        books["term"] = leadership.term
