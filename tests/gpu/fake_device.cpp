// Registers a CUDA device that executes nothing with a build of torch that has no CUDA.
//
// torch refuses tensors of a device type without a device guard, and asks the CUDA hooks whether there is a device. With
// both in place, fake tensors (shapes, types and devices, no data) can lie on "cuda", and autograd differentiates them.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr c10::DeviceType kCuda = c10::DeviceType::CUDA;

// One device with one stream, on which all work has always been completed.
class IdleGuard final : public c10::impl::NoOpDeviceGuardImpl<kCuda> {
 public:
  c10::Device getDevice() const override { return only_device(); }
  c10::Device exchangeDevice(c10::Device) const override { return only_device(); }
  c10::Stream getStream(c10::Device) const noexcept override { return only_stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return only_stream(); }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}

 private:
  static c10::Device only_device() { return c10::Device(kCuda, 0); }
  static c10::Stream only_stream() { return c10::Stream(c10::Stream::DEFAULT, only_device()); }
};

// torch looks the hooks up by this class name.
struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex current_device() const override { return 0; }
};

}  // namespace

C10_REGISTER_GUARD_IMPL(CUDA, IdleGuard)
namespace at {
REGISTER_CUDA_HOOKS(CUDAHooks)
}
