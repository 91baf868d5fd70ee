// Replays a flow trace with SimGrid, for comparison: see simgrid.py, which compiles and feeds it.
// Input: number of links, their bandwidths in bytes/us; number of flows, and of each the start, the delay with the
// latency of its path (us), the bytes, the links and the flows before it, each list after its length.
// Output: CPU seconds of the simulation, and the finish time of each flow in us.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <map>
#include <numeric>
#include <simgrid/s4u.hpp>
#include <vector>

namespace sg4 = simgrid::s4u;

struct Flow {
  double start, wait, finish = -1.0;
  uint64_t size;
  sg4::Host *from, *to;
  int blockers = 0;
  std::vector<int> dependents;
};

static std::vector<Flow> flows;

static void send_one(int index) {
  Flow& flow = flows[index];
  sg4::this_actor::sleep_for(std::max(flow.start - sg4::Engine::get_clock(), 0.0) + flow.wait);
  if (flow.size > 0)
    sg4::Comm::sendto(flow.from, flow.to, flow.size);
  flow.finish = sg4::Engine::get_clock();
  for (int other : flow.dependents)
    if (--flows[other].blockers == 0)
      sg4::Actor::create("flow", sg4::this_actor::get_host(), send_one, other);
}

static void send_in_order() {  // without dependencies one actor starts all
  std::vector<int> order(flows.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [](int a, int b) {
    return flows[a].start + flows[a].wait < flows[b].start + flows[b].wait;
  });
  std::vector<sg4::CommPtr> sent(flows.size());
  for (int index : order) {
    Flow& flow = flows[index];
    sg4::this_actor::sleep_until(flow.start + flow.wait);
    if (flow.size > 0)
      sent[index] = sg4::Comm::sendto_async(flow.from, flow.to, flow.size);
  }
  for (size_t index = 0; index < flows.size(); index++) {
    if (sent[index])
      sent[index]->wait();
    flows[index].finish = sent[index] ? sent[index]->get_finish_time() : flows[index].start + flows[index].wait;
  }
}

int main(int argc, char** argv) {
  sg4::Engine engine(&argc, argv);
  auto* zone = sg4::create_full_zone("zone");
  size_t num_links, num_flows, length;
  std::cin >> num_links;
  std::vector<sg4::LinkInRoute> links;
  for (size_t index = 0; index < num_links; index++) {
    double bandwidth;
    std::cin >> bandwidth;
    links.emplace_back(zone->create_link("link" + std::to_string(index), bandwidth)->set_latency(0.0)->seal());
  }
  std::cin >> num_flows;
  flows.resize(num_flows);
  std::map<std::vector<int>, std::pair<sg4::Host*, sg4::Host*>> ends;
  bool depends = false;
  for (size_t index = 0; index < num_flows; index++) {
    Flow& flow = flows[index];
    std::cin >> flow.start >> flow.wait >> flow.size >> length;
    std::vector<int> path(length);
    for (int& link : path)
      std::cin >> link;
    auto& pair = ends[path];
    if (pair.first == nullptr) {
      std::string name = std::to_string(ends.size());
      pair = {zone->create_host("from" + name, 1.0), zone->create_host("to" + name, 1.0)};
      std::vector<sg4::LinkInRoute> route;
      for (int link : path)
        route.push_back(links[link]);
      zone->add_route(pair.first->get_netpoint(), pair.second->get_netpoint(), nullptr, nullptr, route, false);
    }
    flow.from = pair.first;
    flow.to = pair.second;
    std::cin >> length;
    flow.blockers = static_cast<int>(length);
    for (size_t place = 0; place < length; place++) {
      int before;
      std::cin >> before;
      flows[before].dependents.push_back(static_cast<int>(index));
      depends = true;
    }
  }
  auto* home = zone->create_host("home", 1.0);
  zone->seal();
  if (depends) {
    for (size_t index = 0; index < num_flows; index++)
      if (flows[index].blockers == 0)
        sg4::Actor::create("flow", home, send_one, static_cast<int>(index));
  } else {
    sg4::Actor::create("dispatcher", home, send_in_order);
  }
  clock_t begin = clock();
  engine.run();
  std::printf("%.6f\n", static_cast<double>(clock() - begin) / CLOCKS_PER_SEC);
  for (const Flow& flow : flows)
    std::printf("%.17g\n", flow.finish);
}
